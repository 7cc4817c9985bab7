"""What a function makes of each neuron: its mean Jacobian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def mean_jacobian(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """Mean over cells of the derivative of every output with respect to every neuron.

    One forward-mode product for each neuron, so that the whole Jacobian of a cell is never held.

    Parameters
    ----------
    function
        Function from activations of shape ``[n_cells, n_neurons]`` to outputs of shape ``[n_cells, n_outputs]``, cell by
        cell.
    z
        Activations at which it is taken.

    Returns
    -------
    Tensor of shape ``[n_outputs, n_neurons]``.
    """
    columns = []
    for j in range(z.shape[1]):
        direction = torch.zeros_like(z)
        direction[:, j] = 1
        _, derivative = torch.func.jvp(function, (z,), (direction,))
        columns.append(derivative.mean(dim=0))
    return torch.stack(columns, dim=1)
