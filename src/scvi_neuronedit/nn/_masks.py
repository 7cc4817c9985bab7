"""Masks on the weights of linear layers, kept by :mod:`torch.nn.utils.prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import prune

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def prune_layer(layer: nn.Linear, scores: torch.Tensor, amount: float, prunable: torch.Tensor | None = None) -> None:
    """Remove the weights of lowest score, for good.

    Parameters
    ----------
    layer
        Layer whose ``weight`` gets a mask, or a smaller one.
    scores
        Scores of shape ``[n_out, n_in]``, at least 0.
    amount
        Share of the weights not yet removed that is removed now.
    prunable
        Mask of the weights that may be removed, of shape ``[n_out, n_in]``; all if ``None``. ``amount`` is a share of
        these.
    """
    if not 0 <= amount <= 1:
        msg = f"amount={amount}; it must lie between 0 and 1."
        raise ValueError(msg)
    if scores.shape != layer.weight.shape:
        msg = f"scores have shape {tuple(scores.shape)}, but the layer's weights {tuple(layer.weight.shape)}."
        raise ValueError(msg)
    if not torch.isfinite(scores).all():
        msg = "scores hold NaN or infinite values; the weights they come from have diverged, or a prior holds NaN."
        raise ValueError(msg)
    alive = layer.weight_mask.bool() if prune.is_pruned(layer) else torch.ones_like(layer.weight, dtype=torch.bool)
    scores = scores.to(layer.weight)
    if prunable is not None:
        prunable = prunable.to(alive.device)
        scores = scores.masked_fill(~prunable, torch.inf)
        alive = alive & prunable
    prune.l1_unstructured(layer, "weight", amount=round(amount * int(alive.sum())), importance_scores=scores)


def effective_weight(layer: nn.Linear) -> torch.Tensor:
    """Weights of a layer with its mask, as they are now.

    ``layer.weight`` of a masked layer is as of its last forward pass.

    Parameters
    ----------
    layer
        Layer, masked or not.

    Returns
    -------
    Tensor of shape ``[n_out, n_in]``.
    """
    if hasattr(layer, "weight_mask"):
        return layer.weight_orig * layer.weight_mask
    return layer.weight


def weight_sparsity(layers: Iterable[nn.Linear]) -> float:
    """Share of the weights of some layers that are zero.

    Parameters
    ----------
    layers
        Layers, masked or not.
    """
    weights = [effective_weight(layer).detach() for layer in layers]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


class KeepsMasks(nn.Module):
    """Mixin for modules whose masks shall survive saving: loading a masked state first masks the same layers."""

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load parameters, buffers and masks.

        Parameters
        ----------
        state_dict
            As ``state_dict()`` returned it.
        *args, **kwargs
            As for :meth:`torch.nn.Module.load_state_dict`.
        """
        for name, layer in self.named_modules():
            if f"{name}.weight_mask" in state_dict and not hasattr(layer, "weight_mask"):
                prune.identity(layer, "weight")
        return super().load_state_dict(state_dict, *args, **kwargs)
