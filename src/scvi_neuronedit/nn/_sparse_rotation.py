"""The rotation of a latent space in which shifts of it are sparsest."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

# what counts as small, in units of the root mean square
_SMALL = 0.3
_MAX_ITERATIONS = 200


def sparse_rotation(shifts: torch.Tensor, n_starts: int = 5) -> torch.Tensor:
    r"""Rotation :math:`R` after which the rows of ``shifts`` have few large entries.

    Minimises :math:`\sum_{tk} \sqrt{(S R)_{tk}^2 + \epsilon^2}` over orthogonal matrices, a smooth form of the sum of
    absolute values, with :math:`\epsilon` three tenths of the root mean square of the shifts :math:`S`. A latent space with an
    isotropic prior looks the same from all sides: only the sparsity of the shifts tells the directions apart.

    Parameters
    ----------
    shifts
        Shifts, of shape ``[n_perturbations, n_latent]``.
    n_starts
        Number of random rotations to start from; the best end wins.

    Returns
    -------
    Orthogonal matrix of shape ``[n_latent, n_latent]``, for ``shifts @ rotation``.
    """
    values = shifts.detach().to("cpu", torch.float64)
    n_latent = values.shape[1]
    size = values.square().mean().sqrt()
    if size == 0 or not torch.isfinite(size):  # nothing to turn, or training has diverged
        return torch.eye(n_latent, dtype=shifts.dtype, device=shifts.device)
    values = values / size
    best, lowest = None, torch.inf
    for _ in range(n_starts):
        turn = nn.Linear(n_latent, n_latent, bias=False, dtype=torch.float64)
        nn.init.orthogonal_(turn.weight)
        turn = orthogonal(turn, orthogonal_map="cayley")
        optimizer = torch.optim.LBFGS(turn.parameters(), max_iter=_MAX_ITERATIONS, line_search_fn="strong_wolfe")

        def closure(turn: nn.Module = turn, optimizer: torch.optim.Optimizer = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = _smooth_size(turn(values))
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            loss = float(_smooth_size(turn(values)))
        if loss < lowest:
            best, lowest = turn.weight.detach().T, loss
    return best.to(shifts)


def _smooth_size(values: torch.Tensor) -> torch.Tensor:
    return (values.square() + _SMALL**2).sqrt().sum()
