"""A multi-layer perceptron with skip connections, of one or several inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from scvi_neuronedit.nn._masks import effective_weight

if TYPE_CHECKING:
    from collections.abc import Sequence


class ResidualMLP(nn.Module):
    """Hidden layers of a linear map and a leaky ReLU, with a skip around each but the first; linear output.

    The inputs are what one concatenated input would be, but each is multiplied by its own columns of the first weight
    and the products are added. So they need not have the same leading dimensions: cells of shape ``[n_cells, n_genes]`` go
    through the first layer once, however many particles of shape ``[n_particles, n_cells, n_latent]`` they meet.

    Parameters
    ----------
    n_inputs
        Width of each input.
    n_output
        Width of the output.
    n_hidden
        Width of the hidden layers.
    n_layers
        Number of hidden layers, at least 1.
    """

    def __init__(self, n_inputs: Sequence[int], n_output: int, n_hidden: int = 400, n_layers: int = 1) -> None:
        super().__init__()
        self.n_inputs = list(n_inputs)
        self.first = nn.Linear(sum(self.n_inputs), n_hidden)
        self.hidden = nn.ModuleList(nn.Linear(n_hidden, n_hidden) for _ in range(n_layers - 1))
        self.output = nn.Linear(n_hidden, n_output)
        # the activations of each hidden layer pass through one of these, for hooks to watch
        self.activations = nn.ModuleList(nn.Identity() for _ in range(n_layers))

    def forward(self, *inputs: torch.Tensor, after: int = 0, until: int | None = None) -> torch.Tensor:
        """Run the network, or a part of it.

        Parameters
        ----------
        *inputs
            As many as ``n_inputs``, each of shape ``[..., n_input]``; leading dimensions are broadcast. With ``after``, the
            activations of that layer.
        after
            Start behind this hidden layer, counted from 1.
        until
            Stop with the activations of this hidden layer. The whole network if ``None``.

        Returns
        -------
        Output of shape ``[..., n_output]``, or activations of shape ``[..., n_hidden]``.
        """
        x = self.activations[0](self._first_layer(inputs)) if after == 0 else inputs[0]
        for number in range(max(after, 1), until or len(self.activations)):
            x = self.activations[number](x + functional.leaky_relu(self.hidden[number - 1](x)))
        return self.output(x) if until is None else x

    def _first_layer(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        weights = effective_weight(self.first).split(self.n_inputs, dim=1)
        x = self.first.bias
        for value, weight in zip(inputs, weights, strict=True):
            x = x + functional.linear(value, weight)
        return functional.leaky_relu(x)
