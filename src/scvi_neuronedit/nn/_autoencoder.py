"""An autoencoder whose layers have names, can be read, and can be edited on the way through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch


class Autoencoder(nn.Module):
    """Multi-layer perceptron autoencoder with a mirrored decoder.

    Hidden layers are a linear map, a leaky ReLU and dropout; code and output are linear. This is the network of Amodio
    et al. (MLSP 2020) but for the code, where they have a leaky ReLU too: shifts are carried over better without. The
    *activations* of a layer are what it hands on.
    Layers in order: ``encoder_1``, ``encoder_2``, ..., ``code``, ``decoder_1``, ``decoder_2``, ..., ``output``.

    Parameters
    ----------
    n_input
        Number of features.
    hidden
        Widths of the encoder's layers, outermost first; the decoder mirrors them.
    n_latent
        Width of the code.
    dropout_rate
        Dropout rate of the hidden layers during training.
    negative_slope
        Slope of the leaky ReLU below zero.
    """

    def __init__(
        self,
        n_input: int,
        hidden: Sequence[int] = (256, 128),
        n_latent: int = 50,
        dropout_rate: float = 0.0,
        negative_slope: float = 0.2,
    ) -> None:
        super().__init__()
        names = [f"encoder_{i + 1}" for i in range(len(hidden))]
        names += ["code"]
        names += [f"decoder_{i + 1}" for i in range(len(hidden))]
        widths = [n_input, *hidden, n_latent, *reversed(hidden)]
        self.layers = nn.ModuleDict()
        for name, n_in, n_out in zip(names, widths[:-1], widths[1:], strict=True):
            parts = [nn.Linear(n_in, n_out)]
            if name != "code":
                parts.append(nn.LeakyReLU(negative_slope))
            if name != "code" and dropout_rate > 0:
                parts.append(nn.Dropout(dropout_rate))
            self.layers[name] = nn.Sequential(*parts)
        self.layers["output"] = nn.Sequential(nn.Linear(widths[-1], n_input))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, from the first hidden layer to the output."""
        return tuple(self.layers)

    @property
    def n_neurons(self) -> dict[str, int]:
        """Width of each layer."""
        return {name: layer[0].out_features for name, layer in self.layers.items()}

    def forward(
        self,
        x: torch.Tensor,
        *,
        after: str | None = None,
        until: str = "output",
        edits: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """Run the network, or a part of it.

        Parameters
        ----------
        x
            Input of shape ``[n_cells, n_input]``, or the activations of layer ``after``.
        after
            Start behind this layer. The whole network if ``None``.
        until
            Stop with the activations of this layer.
        edits
            Functions of the activations of a layer, by layer name, applied before they are handed on.

        Returns
        -------
        Activations of layer ``until``, of shape ``[n_cells, n_neurons]``.
        """
        names = self.layer_names
        first = 0 if after is None else names.index(after) + 1
        for name in names[first : names.index(until) + 1]:
            x = self.layers[name](x)
            if edits and name in edits:
                x = edits[name](x)
        return x
