"""Pruning scores that mix the size of weights with prior knowledge (DASH, arXiv 2403.04805)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch

from scvi_neuronedit.nn._masks import effective_weight, prune_layer, weight_sparsity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

SCALINGS = ("paper", "balanced")


def dash_scores(
    importances: Sequence[torch.Tensor],
    previous: Sequence[torch.Tensor],
    lambdas: Sequence[float],
    prior: torch.Tensor | None,
    input_prior: torch.Tensor | None = None,
    *,
    scaling: Literal["paper", "balanced"] = "balanced",
) -> list[torch.Tensor]:
    r"""Scores :math:`\Omega_l` of the weights of :math:`L` consecutive linear layers.

    :math:`\Omega_l(t) = (1 - \lambda_l) |\tilde W_l(t)| + \lambda_l |\Pi_l|`, with the importances divided by their
    sum as :math:`|\tilde W_l|`. What the prior says of layer :math:`l`, :math:`\Pi_l`, is (section 3 and appendix B.6 of
    the paper; :math:`X^+` is the pseudo-inverse)

    - one layer: :math:`P`;
    - two layers with an input prior :math:`C`: :math:`\Pi_1 = (\Omega_1(t-1)^T)^+ C` and
      :math:`\Pi_2 = P\,\Omega_1(t)^+`;
    - otherwise :math:`\Pi_l = (\Omega_L \cdots \Omega_{l+1})^+ P\,(\Omega_{l-1} \cdots \Omega_1)^+`, where the layers
      before :math:`l` have their new scores and those behind it their previous ones.

    Scaling ``"paper"`` leaves the prior terms as they are but for :math:`C`, which is divided by its sum: how much a
    :math:`\lambda` weighs then depends on the size of the network. ``"balanced"`` divides every :math:`|\Pi_l|` by its
    sum, so that both terms sum to 1.

    Parameters
    ----------
    importances
        Importance of each weight by size, at least 0, first layer first: shapes ``[n_1, n_in]``, ``[n_2, n_1]``, ...
    previous
        Scores of the last time, of the same shapes.
    lambdas
        Weight of the prior in each layer, between 0 (size only) and 1 (prior only).
    prior
        :math:`P`: prior of the effect of inputs on outputs, of shape ``[n_out, n_in]``; its sign does not matter.
        ``None`` only where all ``lambdas`` are 0.
    input_prior
        :math:`C`: prior of inputs acting together, of shape ``[n_in, n_in]``. For two layers only.
    scaling
        ``"paper"`` or ``"balanced"``.

    Returns
    -------
    Scores of the shapes of ``importances``.
    """
    scores = list(previous)
    for layer, (importance, lam) in enumerate(zip(importances, lambdas, strict=True)):
        scores[layer] = (1 - lam) * _sum_to_one(importance)
        if lam == 0:
            continue
        term = _prior_term(layer, [*scores[:layer], *previous[layer:]], prior.abs(), input_prior).abs()
        scores[layer] = scores[layer] + lam * (term if scaling == "paper" else _sum_to_one(term))
    return scores


def _prior_term(
    layer: int, scores: list[torch.Tensor], prior: torch.Tensor, input_prior: torch.Tensor | None
) -> torch.Tensor:
    if layer == 0 and len(scores) == 2 and input_prior is not None:
        return torch.linalg.pinv(scores[0].T) @ _sum_to_one(input_prior.abs())
    term = prior
    if layer > 0:
        term = term @ torch.linalg.pinv(_product(scores[:layer]))
    if layer < len(scores) - 1:
        term = torch.linalg.pinv(_product(scores[layer + 1 :])) @ term
    return term


def _product(scores: list[torch.Tensor]) -> torch.Tensor:
    product = scores[0]
    for score in scores[1:]:
        product = score @ product
    return product


def _sum_to_one(x: torch.Tensor) -> torch.Tensor:
    total = x.sum()
    return x / total if total > 0 else x


@dataclass
class WeightChain:
    r"""Consecutive linear layers that are pruned together, and what is known of them.

    Parameters
    ----------
    layers
        The layers, first to last. Nonlinearities between them are ignored.
    prior
        :math:`P` of :func:`dash_scores`, of shape ``[n_out, n_in]``: non-zero where an input acts on an output. ``None``
        if nothing is known: then only size counts.
    input_prior
        :math:`C` of :func:`dash_scores`, of shape ``[n_in, n_in]``. For two layers only.
    importances
        For each layer a function of its weights that returns their importance, at least 0. Absolute values if ``None``.
    prunable
        Mask of the weights that may be removed, of shape ``[n_out, n_in]``, for a single layer. All if ``None``.
    """

    layers: Sequence[nn.Linear]
    prior: torch.Tensor | None = None
    input_prior: torch.Tensor | None = None
    importances: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None
    prunable: torch.Tensor | None = None
    _scores: list[torch.Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for first, second in pairwise(self.layers):
            if first.out_features != second.in_features:
                msg = (
                    f"layers do not follow each other: {first.out_features} outputs, then {second.in_features} inputs."
                )
                raise ValueError(msg)
        n_in, n_out = self.layers[0].in_features, self.layers[-1].out_features
        self._check("prior", self.prior, (n_out, n_in))
        self._check("input_prior", self.input_prior, (n_in, n_in))
        if self.input_prior is not None and len(self.layers) != 2:
            msg = f"input_prior is for two layers, but there are {len(self.layers)}."
            raise ValueError(msg)
        if self.prunable is not None and len(self.layers) != 1:
            msg = f"prunable is for a single layer, but there are {len(self.layers)}."
            raise ValueError(msg)
        self._check("prunable", self.prunable, (n_out, n_in))
        self._scores = [torch.rand(layer.weight.shape, dtype=torch.float64) for layer in self.layers]

    @staticmethod
    def _check(argument: str, matrix: torch.Tensor | None, shape: tuple[int, int]) -> None:
        if matrix is None:
            return
        if tuple(matrix.shape) != shape:
            msg = f"{argument} has shape {tuple(matrix.shape)}; the layers need {shape}."
            raise ValueError(msg)
        if not torch.isfinite(matrix).all():
            msg = f"{argument} holds NaN or infinite values."
            raise ValueError(msg)

    @torch.no_grad()
    def score(self, lambdas: Sequence[float], scaling: Literal["paper", "balanced"] = "balanced") -> list[torch.Tensor]:
        """Scores of all weights as they are now; remembered as the previous ones of the next call.

        Parameters
        ----------
        lambdas
            Weight of the prior in each layer, between 0 and 1.
        scaling
            See :func:`dash_scores`.

        Returns
        -------
        For each layer a float64 tensor of shape ``[n_out, n_in]``.
        """
        if any(lambdas) and self.prior is None:
            msg = f"lambdas={tuple(lambdas)}, but there is no prior; pass one, or set lambdas to 0."
            raise ValueError(msg)
        functions = self.importances or [torch.abs] * len(self.layers)
        importances = [
            function(effective_weight(layer)).double().cpu()
            for function, layer in zip(functions, self.layers, strict=True)
        ]
        priors = [None if p is None else p.double().cpu() for p in (self.prior, self.input_prior)]
        self._scores = dash_scores(importances, self._scores, lambdas, *priors, scaling=scaling)
        return self._scores

    def prune(
        self, amount: float, lambdas: Sequence[float], scaling: Literal["paper", "balanced"] = "balanced"
    ) -> None:
        """Score all weights, then remove those of lowest score from each layer.

        Parameters
        ----------
        amount
            Share of each layer's weights not yet removed that is removed now.
        lambdas
            Weight of the prior in each layer, between 0 and 1.
        scaling
            See :func:`dash_scores`.
        """
        for layer, scores in zip(self.layers, self.score(lambdas, scaling), strict=True):
            prune_layer(layer, scores, amount, self.prunable)

    @property
    def sparsity(self) -> float:
        """Share of the weights that may be removed that are zero."""
        if self.prunable is None:
            return weight_sparsity(self.layers)
        weights = effective_weight(self.layers[0]).detach()[self.prunable]
        return float((weights == 0).double().mean())

    @property
    def n_weights(self) -> int:
        """Number of weights that may be removed."""
        return sum(layer.weight.numel() for layer in self.layers) if self.prunable is None else int(self.prunable.sum())
