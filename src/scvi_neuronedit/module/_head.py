"""The likelihood of one modality: how its data enter the network, and what the network's output stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scvi.distributions import NegativeBinomial, Poisson
from torch import nn
from torch.distributions import Normal
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.distributions import Distribution

LIKELIHOODS = ("normal", "nb", "poisson")
_CP10K = 1e4
_MIN_MEAN = 1e-8


class Head(nn.Module):
    """Likelihood of the features of one modality.

    With a count likelihood the network reads ``log1p`` of counts per 10,000 and its output passes through a softmax
    over the modality's features, to be multiplied by the cell's library size in this modality.

    Parameters
    ----------
    n_features
        Number of features.
    likelihood
        ``"normal"`` (unit variance: squared error), ``"nb"`` (negative binomial, one dispersion per gene) or
        ``"poisson"``.
    counts_per_size_factor
        Library size that a size factor of 1 stands for. ``None`` if no size factors are given: the library
        size is then the cell's total count.
    """

    def __init__(
        self,
        n_features: int,
        likelihood: Literal["normal", "nb", "poisson"] = "normal",
        counts_per_size_factor: float | None = None,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        if likelihood == "nb":
            self.log_inverse_dispersion = nn.Parameter(torch.zeros(n_features))
        self.register_buffer(
            "counts_per_size_factor",
            torch.tensor(float("nan") if counts_per_size_factor is None else counts_per_size_factor),
        )

    @property
    def is_count(self) -> bool:
        """Whether the data are counts."""
        return self.likelihood != "normal"

    def library_size(self, x: torch.Tensor, size_factor: torch.Tensor | None) -> torch.Tensor:
        """Library size of each cell, of shape ``[n_cells, 1]``; at least 1, and 1 for the normal likelihood."""
        if not self.is_count:
            return x.new_ones(len(x), 1)
        if size_factor is None:
            return x.sum(dim=1, keepdim=True).clamp(min=1)
        return size_factor * self.counts_per_size_factor

    def network_input(self, x: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """What the first layer reads: the data themselves, or log1p CP10k of counts."""
        return torch.log1p(x * (_CP10K / library)) if self.is_count else x

    def mean(self, output: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """Expected values that the network's output stands for, on the scale of the data."""
        if not self.is_count:
            return output
        # a softmax can underflow to 0, where the likelihood of a count above 0 would be infinite
        return (functional.softmax(output, dim=-1) * library).clamp(min=_MIN_MEAN)

    def distribution(self, mean: torch.Tensor) -> Distribution:
        """Distribution of the data."""
        if self.likelihood == "nb":
            return NegativeBinomial(mu=mean, theta=self.log_inverse_dispersion.exp(), validate_args=False)
        if self.likelihood == "poisson":
            return Poisson(mean, validate_args=False)
        return Normal(mean, torch.ones_like(mean), validate_args=False)

    def reconstruction_loss(self, px: Distribution, x: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood, of shape ``[n_networks, n_cells]``; without its constant for the normal likelihood."""
        if self.is_count:
            return -px.log_prob(x).sum(dim=-1)
        return 0.5 * functional.mse_loss(px.loc, x.expand_as(px.loc), reduction="none").sum(dim=-1)

    def inverse_dispersion(self) -> NDArray[np.float64] | None:
        """Inverse dispersion of each gene, of shape ``[n_features]``; ``None`` if there is none."""
        if self.likelihood != "nb":
            return None
        return self.log_inverse_dispersion.detach().exp().cpu().numpy().astype(np.float64)
