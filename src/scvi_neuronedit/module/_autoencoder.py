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

from scvi_neuronedit.data import unknown_name
from scvi_neuronedit.nn import Autoencoder, KeepsMasks, WeightChain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch.distributions import Distribution

    from scvi_neuronedit.module._programs import GenePrograms

LIKELIHOODS = ("normal", "nb", "poisson")
SIZE_FACTOR_KEY = "size_factor"
_CP10K = 1e4
_MIN_MEAN = 1e-8


class AutoencoderModule(KeepsMasks, BaseModuleClass):
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
    n_networks
        Number of autoencoders, trained side by side on the same minibatches. With several, the layers of each go by
        the name of the layer and the number of the network: ``"code/1"``, ``"code/2"``, ...
    programs
        Gene programs that neurons stand for. ``None`` if all neurons are free.
    """

    def __init__(
        self,
        n_input: int,
        hidden: Sequence[int] = (256, 128),
        n_latent: int = 50,
        dropout_rate: float = 0.0,
        likelihood: Literal["normal", "nb", "poisson"] = "normal",
        counts_per_size_factor: float | None = None,
        n_networks: int = 1,
        programs: GenePrograms | None = None,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.networks = nn.ModuleList(Autoencoder(n_input, hidden, n_latent, dropout_rate) for _ in range(n_networks))
        self.programs = programs
        for network in self.networks if programs is not None else []:
            programs.initialize(network)
        if likelihood == "nb":
            self.log_inverse_dispersion = nn.Parameter(torch.zeros(n_input))
        self.register_buffer(
            "counts_per_size_factor",
            torch.tensor(float("nan") if counts_per_size_factor is None else counts_per_size_factor),
        )

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers of a network, from the first hidden layer to the output."""
        return self.networks[0].layer_names

    def names_in_networks(self, layer: str) -> tuple[str, ...]:
        """What a layer is called in each of the networks; the plain name where there is only one."""
        if len(self.networks) == 1 or "/" in layer:
            return (layer,)
        return tuple(f"{layer}/{number}" for number in range(1, len(self.networks) + 1))

    def find_layers(self, layer: str) -> dict[str, nn.Module]:
        """The submodule of a layer in each of the networks, or in the one that is named."""
        found = {}
        for number, network in enumerate(self.networks):
            own = {self.names_in_networks(name)[number]: network.layers[name] for name in self.layer_names}
            found |= {name: own[name] for name in self.names_in_networks(layer) if name in own}
        if not found:
            raise ValueError(unknown_name("layer", layer, "the network", self.layer_names))
        return found

    def weight_chains(self) -> list[WeightChain]:
        """What :class:`~scvi_neuronedit.train.DASHPruning` prunes: the gene programs, or all layers if there are none."""
        if self.programs is not None:
            return [self.programs.chain(network) for network in self.networks]
        return [WeightChain((layer[0],)) for network in self.networks for layer in network.layers.values()]

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
        """Encode: code ``z`` of shape ``[n_networks, n_cells, n_latent]`` and library size."""
        library = self.library_size(x, size_factor)
        inputs = self.network_input(x, library)
        return {"z": torch.stack([network(inputs, until="code") for network in self.networks]), "library": library}

    def _get_generative_input(self, tensors: dict, inference_outputs: dict, **kwargs) -> dict:
        return inference_outputs

    def generative(self, z: torch.Tensor, library: torch.Tensor) -> dict[str, Distribution]:
        """Decode: distribution ``px`` of the data, of shape ``[n_networks, n_cells, n_input]``."""
        output = torch.stack([network(code, after="code") for network, code in zip(self.networks, z, strict=True)])
        mean = self.mean(output, library)
        if self.likelihood == "nb":
            return {"px": NegativeBinomial(mu=mean, theta=self.log_inverse_dispersion.exp(), validate_args=False)}
        if self.likelihood == "poisson":
            return {"px": Poisson(mean, validate_args=False)}
        return {"px": Normal(mean, torch.ones_like(mean), validate_args=False)}

    def loss(self, tensors: dict, inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Negative log-likelihood per cell, its constant left out for the normal likelihood.

        The loss is summed over networks, so that each has the gradient it would have alone; what is reported per cell is
        their mean.
        """
        x, px = tensors[REGISTRY_KEYS.X_KEY], generative_outputs["px"]
        if self.likelihood == "normal":
            reconstruction = 0.5 * functional.mse_loss(px.loc, x.expand_as(px.loc), reduction="none").sum(dim=-1)
        else:
            reconstruction = -px.log_prob(x).sum(dim=-1)
        return LossOutput(loss=reconstruction.mean(dim=1).sum(), reconstruction_loss=reconstruction.mean(dim=0))

    @torch.inference_mode()
    @auto_move_data
    def edit(
        self,
        x: torch.Tensor,
        size_factor: torch.Tensor | None,
        edits: Mapping[str, Callable[[torch.Tensor], torch.Tensor]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decoded means without and with edited activations, each of shape ``[n_networks, n_cells, n_input]``.

        Networks none of whose layers are edited are left out, unless no network is edited.
        """
        library = self.library_size(x, size_factor)
        inputs = self.network_input(x, library)
        by_network = [self._edits_of(edits, number) for number in range(len(self.networks))]
        used = [i for i, edits in enumerate(by_network) if edits] or range(len(self.networks))
        before = torch.stack([self.networks[i](inputs) for i in used])
        after = torch.stack([self.networks[i](inputs, edits=by_network[i]) for i in used]) if edits else before
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
        """Activations of a layer, of shape ``[n_cells, n_neurons]``; of all networks side by side if none is named."""
        inputs = self.network_input(x, self.library_size(x, size_factor))
        name, _, number = layer.partition("/")
        numbers = [int(number) - 1] if number else range(len(self.networks))
        return torch.cat([self.networks[i](inputs, until=name, edits=self._edits_of(edits, i)) for i in numbers], dim=1)

    def _edits_of(self, edits: Mapping[str, Callable] | None, number: int) -> dict[str, Callable]:
        """The edits of one network, by the plain name of the layer."""
        return {
            name: edits[key]
            for name in self.layer_names
            if (key := self.names_in_networks(name)[number]) in (edits or {})
        }
