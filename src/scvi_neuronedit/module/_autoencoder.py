"""scvi-tools module of the autoencoder: inference, generative, loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import nn

from scvi_neuronedit.data import unknown_name
from scvi_neuronedit.module._head import Head
from scvi_neuronedit.nn import Autoencoder, KeepsMasks, WeightChain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.distributions import Distribution

    from scvi_neuronedit.module._programs import GenePrograms

SIZE_FACTOR_KEY = "size_factor"


class AutoencoderModule(KeepsMasks, BaseModuleClass):
    """Autoencoder trained by reconstruction alone; condition and batch are never its input.

    Several modalities enter the network side by side and share all its hidden layers, the code among them. The output
    layer and the likelihood are each modality's own: its :class:`~scvi_neuronedit.module.Head`.

    Parameters
    ----------
    n_input
        Number of features, of each modality if there are several.
    hidden, n_latent, dropout_rate
        See :class:`~scvi_neuronedit.nn.Autoencoder`.
    likelihood
        Likelihood, of each modality if there are several; see :class:`~scvi_neuronedit.module.Head`.
    counts_per_size_factor
        See :class:`~scvi_neuronedit.module.Head`.
    n_networks
        Number of autoencoders, trained side by side on the same minibatches. With several, the layers of each go by
        the name of the layer and the number of the network: ``"code/1"``, ``"code/2"``, ...
    programs
        Gene programs that neurons stand for. ``None`` if all neurons are free.
    """

    def __init__(
        self,
        n_input: int | Sequence[int],
        hidden: Sequence[int] = (256, 128),
        n_latent: int = 50,
        dropout_rate: float = 0.0,
        likelihood: Literal["normal", "nb", "poisson"] | Sequence[str] = "normal",
        counts_per_size_factor: float | None = None,
        n_networks: int = 1,
        programs: GenePrograms | None = None,
    ) -> None:
        super().__init__()
        self.widths = [n_input] if isinstance(n_input, int) else list(n_input)
        likelihoods = [likelihood] if isinstance(likelihood, str) else likelihood
        self.x_keys = modality_keys(REGISTRY_KEYS.X_KEY, len(self.widths))
        self.px_keys = modality_keys("px", len(self.widths))
        self.networks = nn.ModuleList(
            Autoencoder(sum(self.widths), hidden, n_latent, dropout_rate) for _ in range(n_networks)
        )
        self.programs = programs
        for network in self.networks if programs is not None else []:
            programs.initialize(network)
        self.heads = nn.ModuleList(
            Head(width, name, counts_per_size_factor) for width, name in zip(self.widths, likelihoods, strict=True)
        )

    @property
    def columns(self) -> list[slice]:
        """Where the features of each modality are."""
        ends = [sum(self.widths[: i + 1]) for i in range(len(self.widths))]
        return [slice(end - width, end) for end, width in zip(ends, self.widths, strict=True)]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers of a network, from the first hidden layer to the output."""
        return self.networks[0].layer_names

    @property
    def n_neurons(self) -> dict[str, int]:
        """Width of each layer."""
        return self.networks[0].n_neurons

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

    @torch.no_grad()
    def start_output(self, columns: slice, output: torch.Tensor) -> None:
        """Set what all networks put out for features where all neurons before are 0.

        Parameters
        ----------
        columns
            Where the features are.
        output
            Output of shape ``[n_features]``; only differences matter to counts.
        """
        for network in self.networks:
            network.layers["output"][0].bias[columns] = output - output.mean()

    @torch.no_grad()
    def multiply_layer(self, layer: str, matrix: torch.Tensor) -> bool:
        """Multiply a linear layer by an invertible matrix, and what reads it by the inverse: the output stays the same.

        Parameters
        ----------
        layer
            Name of the layer; of several networks, of one of them.
        matrix
            Matrix of shape ``[n_neurons, n_neurons]``.

        Returns
        -------
        Whether it was done: not where an activation function is in between, or a mask or named neurons would be lost.
        """
        name, _, number = layer.partition("/")
        network = self.networks[int(number or 1) - 1]
        if name != "code" or (self.programs is not None and self.programs.layer == name):
            return False
        reader = self.layer_names[self.layer_names.index(name) + 1]
        own, reader = network.layers[name][0], network.layers[reader][0]
        if hasattr(own, "weight_mask") or hasattr(reader, "weight_mask"):
            return False
        matrix = matrix.to(own.weight.device, torch.float64)
        own.weight.copy_(matrix @ own.weight.double())
        own.bias.copy_(matrix @ own.bias.double())
        reader.weight.copy_(torch.linalg.solve(matrix.T, reader.weight.double().T).T)
        return True

    def weight_chains(self) -> list[WeightChain]:
        """What :class:`~scvi_neuronedit.train.DASHPruning` prunes: the gene programs, or all layers if there are none."""
        if self.programs is not None:
            return [self.programs.chain(network) for network in self.networks]
        return [WeightChain((layer[0],)) for network in self.networks for layer in network.layers.values()]

    def library_size(self, x: torch.Tensor, size_factor: torch.Tensor | None) -> torch.Tensor:
        """Library size of each cell in each modality, of shape ``[n_cells, n_modalities]``."""
        return _side_by_side([head.library_size(part, size_factor) for head, part in self._of_heads(x)])

    def network_input(self, x: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """What the first layer reads: the data themselves, or log1p CP10k of counts."""
        parts = zip(self._of_heads(x), library.split(1, dim=1), strict=True)
        return _side_by_side([head.network_input(part, size) for (head, part), size in parts])

    def mean(self, output: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """Expected values that the network's output stands for, on the scale of the data."""
        parts = zip(self._of_heads(output), library.split(1, dim=1), strict=True)
        return _side_by_side([head.mean(part, size) for (head, part), size in parts])

    def scale_counts(self, mean: torch.Tensor, total: float) -> torch.Tensor:
        """Expected values whose counts add up to a total in each modality; others as they are."""
        parts = self._of_heads(mean)
        return _side_by_side(
            [part / part.sum(dim=-1, keepdim=True) * total if head.is_count else part for head, part in parts]
        )

    def _of_heads(self, values: torch.Tensor) -> list[tuple[Head, torch.Tensor]]:
        if len(self.heads) == 1:  # splitting takes time, and once more in the backward pass
            return [(self.heads[0], values)]
        return list(zip(self.heads, values.split(self.widths, dim=-1), strict=True))

    def _get_inference_input(self, tensors: dict[str, torch.Tensor], **kwargs) -> dict:
        x = _side_by_side([tensors[key] for key in self.x_keys])
        return {"x": x, "size_factor": tensors.get(SIZE_FACTOR_KEY)}

    # forward() has moved the data; doing so once more in each part takes time on small panels
    def inference(self, x: torch.Tensor, size_factor: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Encode: code ``z`` of shape ``[n_networks, n_cells, n_latent]`` and library size."""
        library = self.library_size(x, size_factor)
        inputs = self.network_input(x, library)
        return {"z": torch.stack([network(inputs, until="code") for network in self.networks]), "library": library}

    def _get_generative_input(self, tensors: dict, inference_outputs: dict, **kwargs) -> dict:
        return inference_outputs

    def generative(self, z: torch.Tensor, library: torch.Tensor) -> dict[str, Distribution]:
        """Decode: distribution ``px`` of the data, of shape ``[n_networks, n_cells, n_input]``.

        The distributions of further modalities are ``px_2``, ...
        """
        output = torch.stack([network(code, after="code") for network, code in zip(self.networks, z, strict=True)])
        means = self._of_heads(self.mean(output, library))
        return {key: head.distribution(mean) for key, (head, mean) in zip(self.px_keys, means, strict=True)}

    def loss(self, tensors: dict, inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Negative log-likelihood per cell, its constant left out for the normal likelihood.

        The loss is summed over modalities, and over networks, so that each has the gradient it would have alone; what is
        reported per cell is their mean over networks.
        """
        parts = zip(self.heads, self.px_keys, self.x_keys, strict=True)
        reconstruction = sum(head.reconstruction_loss(generative_outputs[px], tensors[key]) for head, px, key in parts)
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


def modality_keys(key: str, n: int) -> list[str]:
    """A key for each of ``n`` modalities: ``X``, ``X_2``, ..."""
    return [key, *(f"{key}_{number}" for number in range(2, n + 1))]


def _side_by_side(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
