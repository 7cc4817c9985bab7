"""scvi-tools module of the autoencoder: inference, generative, loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.distributions import NegativeBinomial, Poisson
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import nn
from torch.distributions import Normal
from torch.nn import functional

from scvi_neuronedit.nn import Autoencoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch.distributions import Distribution

LIKELIHOODS = ("normal", "nb", "poisson")
SIZE_FACTOR_KEY = "size_factor"
_CP10K = 1e4
_MIN_MEAN = 1e-8


class AutoencoderModule(BaseModuleClass):
    """Autoencoder trained by reconstruction alone; condition and batch are never its input.

    With a count likelihood the network reads ``log1p`` of counts per 10,000 and its output passes through a softmax
    over genes, to be multiplied by the cell's library size.

    Parameters
    ----------
    n_input
        Number of features.
    hidden, n_latent, dropout_rate
        See :class:`~scvi_neuronedit.nn.Autoencoder`.
    likelihood
        ``"normal"`` (unit variance: squared error), ``"nb"`` (negative binomial, one dispersion per gene) or
        ``"poisson"``.
    counts_per_size_factor
        Library size that a size factor of 1 stands for. ``None`` if no size factors are given: the library
        size is then the cell's total count.
    """

    def __init__(
        self,
        n_input: int,
        hidden: Sequence[int] = (256, 128),
        n_latent: int = 50,
        dropout_rate: float = 0.0,
        likelihood: Literal["normal", "nb", "poisson"] = "normal",
        counts_per_size_factor: float | None = None,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.autoencoder = Autoencoder(n_input, hidden, n_latent, dropout_rate)
        if likelihood == "nb":
            self.log_inverse_dispersion = nn.Parameter(torch.zeros(n_input))
        self.register_buffer(
            "counts_per_size_factor",
            torch.tensor(float("nan") if counts_per_size_factor is None else counts_per_size_factor),
        )

    def network_input(self, x: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """What the first layer reads: the data themselves, or log1p CP10k of counts."""
        return x if self.likelihood == "normal" else torch.log1p(x * (_CP10K / library))

    def library_size(self, x: torch.Tensor, size_factor: torch.Tensor | None) -> torch.Tensor:
        """Library size of each cell, of shape ``[n_cells, 1]``; at least 1, and 1 for the normal likelihood."""
        if self.likelihood == "normal":
            return x.new_ones(1)
        if size_factor is None:
            return x.sum(dim=1, keepdim=True).clamp(min=1)
        return size_factor * self.counts_per_size_factor

    def mean(self, output: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """Expected values that the network's output stands for, on the scale of the data."""
        if self.likelihood == "normal":
            return output
        # a softmax can underflow to 0, where the likelihood of a count above 0 would be infinite
        return (functional.softmax(output, dim=-1) * library).clamp(min=_MIN_MEAN)

    def inverse_dispersion(self) -> NDArray[np.float64] | None:
        """Inverse dispersion of each gene, of shape ``[n_input]``; ``None`` for a Poisson."""
        if self.likelihood != "nb":
            return None
        return self.log_inverse_dispersion.detach().exp().cpu().numpy().astype(np.float64)

    def _get_inference_input(self, tensors: dict[str, torch.Tensor], **kwargs) -> dict:
        return {"x": tensors[REGISTRY_KEYS.X_KEY], "size_factor": tensors.get(SIZE_FACTOR_KEY)}

    # forward() has moved the data; doing so once more in each part takes time on small panels
    def inference(self, x: torch.Tensor, size_factor: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Encode: code ``z`` of shape ``[n_cells, n_latent]`` and library size."""
        library = self.library_size(x, size_factor)
        return {"z": self.autoencoder(self.network_input(x, library), until="code"), "library": library}

    def _get_generative_input(self, tensors: dict, inference_outputs: dict, **kwargs) -> dict:
        return inference_outputs

    def generative(self, z: torch.Tensor, library: torch.Tensor) -> dict[str, Distribution]:
        """Decode: distribution ``px`` of the data."""
        mean = self.mean(self.autoencoder(z, after="code"), library)
        if self.likelihood == "nb":
            return {"px": NegativeBinomial(mu=mean, theta=self.log_inverse_dispersion.exp(), validate_args=False)}
        if self.likelihood == "poisson":
            return {"px": Poisson(mean, validate_args=False)}
        return {"px": Normal(mean, torch.ones_like(mean), validate_args=False)}

    def loss(self, tensors: dict, inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Negative log-likelihood per cell, its constant left out for the normal likelihood."""
        x, px = tensors[REGISTRY_KEYS.X_KEY], generative_outputs["px"]
        if self.likelihood == "normal":
            reconstruction = 0.5 * functional.mse_loss(px.loc, x, reduction="none").sum(dim=-1)
        else:
            reconstruction = -px.log_prob(x).sum(dim=-1)
        return LossOutput(loss=reconstruction.mean(), reconstruction_loss=reconstruction)

    @torch.inference_mode()
    @auto_move_data
    def edit(
        self,
        x: torch.Tensor,
        size_factor: torch.Tensor | None,
        edits: Mapping[str, Callable[[torch.Tensor], torch.Tensor]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decoded means without and with edited activations, each of shape ``[n_cells, n_input]``."""
        library = self.library_size(x, size_factor)
        inputs = self.network_input(x, library)
        before = self.autoencoder(inputs)
        after = self.autoencoder(inputs, edits=edits)
        return self.mean(before, library), self.mean(after, library)

    @torch.inference_mode()
    @auto_move_data
    def activations(
        self,
        x: torch.Tensor,
        size_factor: torch.Tensor | None,
        layer: str,
        edits: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """Activations of a layer, of shape ``[n_cells, n_neurons]``."""
        inputs = self.network_input(x, self.library_size(x, size_factor))
        return self.autoencoder(inputs, until=layer, edits=edits)
