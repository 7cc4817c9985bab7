"""How much structure neurons have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def morans_i(activations: NDArray, adjacency: NDArray | sparse.sparray) -> NDArray[np.float64]:
    r"""Moran's I of the activations of each cell over the graph of neurons.

    :math:`\frac{n}{\sum A_{ij}} \sum_{ij} A_{ij} (z_i - \bar z)(z_j - \bar z) / \sum_i (z_i - \bar z)^2`: 1 where neighbours are
    alike, :math:`-1 / (n - 1)` expected where they have nothing to do with each other. NaN for a constant cell.

    Parameters
    ----------
    activations
        Activations of shape ``[n_cells, n_neurons]``.
    adjacency
        Adjacency of shape ``[n_neurons, n_neurons]``.
    """
    z = np.asarray(activations, dtype=float)
    z = z - z.mean(axis=1, keepdims=True)
    adjacency = sparse.csr_array(adjacency)
    between, total = (z * (adjacency @ z.T).T).sum(axis=1), (z**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, z.shape[1] / adjacency.sum() * between / total, np.nan)


def group_purity(groups: ArrayLike, truth: ArrayLike) -> float:
    """Share of items whose true class is the most frequent one of their group.

    Parameters
    ----------
    groups
        Group of each item.
    truth
        True class of each item.
    """
    groups, truth = np.unique(groups, return_inverse=True)[1], np.unique(truth, return_inverse=True)[1]
    table = np.zeros((groups.max() + 1, truth.max() + 1))
    np.add.at(table, (groups, truth), 1)
    return float(table.max(axis=1).sum() / table.sum())


def circular_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation of two positions on circles, whatever their origins: that of Fisher and Lee for ranks.

    Parameters
    ----------
    a, b
        Positions; only their ranks around the circle count. Ties share a rank.

    Returns
    -------
    Between -1 (reversed) and 1 (same order).
    """
    a, b = (2 * np.pi * rankdata(np.asarray(x, dtype=float)) / len(x) for x in (a, b))
    a, b = (np.sin(x[:, None] - x[None, :]) for x in (a, b))
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
