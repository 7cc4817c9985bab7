"""Distances between populations of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

if TYPE_CHECKING:
    from numpy.typing import NDArray


def energy_distance(x: NDArray, y: NDArray) -> float:
    r"""Energy distance of two samples.

    :math:`2 E\|X - Y\| - E\|X - X'\| - E\|Y - Y'\|` with the Euclidean norm and means over all pairs, a cell with
    itself included (V-statistic), as in Székely & Rizzo (2013). It is 0 if both samples are equal, never negative,
    and in the units of the data.

    Parameters
    ----------
    x, y
        Samples of shapes ``[n_x, n_features]`` and ``[n_y, n_features]``.
    """
    return 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)


def _mean_distance(x: NDArray, y: NDArray) -> float:
    total = sum(float(block.sum(dtype=np.float64)) for block in pairwise_distances_chunked(x, y))
    return total / (len(x) * len(y))
