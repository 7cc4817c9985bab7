"""Scores by which an edit is chosen, and predictions are judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

if TYPE_CHECKING:
    from numpy.typing import NDArray


_FEATURES_PER_BLOCK = 64


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


def feature_emd(x: NDArray, y: NDArray) -> NDArray[np.float64]:
    r"""Earth mover's distance of two samples in each feature.

    The 1-D Wasserstein distance :math:`\int_0^1 |F_x^{-1}(u) - F_y^{-1}(u)|\,du`, in the units of the data.

    Parameters
    ----------
    x, y
        Samples of shapes ``[n_x, n_features]`` and ``[n_y, n_features]``.

    Returns
    -------
    Distances of shape ``[n_features]``.
    """
    n_x, n_y = len(x), len(y)
    # between neighbouring multiples of 1/n_x and 1/n_y both quantile functions are constant; in units of 1/(n_x n_y)
    ends = np.union1d(np.arange(1, n_x + 1) * n_y, np.arange(1, n_y + 1) * n_x)
    widths = np.diff(ends, prepend=0) / (n_x * n_y)
    distances = np.empty(x.shape[1])
    for first in range(0, x.shape[1], _FEATURES_PER_BLOCK):
        block = slice(first, first + _FEATURES_PER_BLOCK)
        quantiles_x = np.sort(x[:, block], axis=0)[(ends - 1) // n_y]
        quantiles_y = np.sort(y[:, block], axis=0)[(ends - 1) // n_x]
        distances[block] = widths @ np.abs(quantiles_x.astype(np.float64) - quantiles_y)
    return distances


def feature_emd_interval(
    x: NDArray, y: NDArray, *, level: float = 0.95, n_bootstrap: int = 200, random_state: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bootstrap interval of the earth mover's distance in each feature.

    Parameters
    ----------
    x, y
        Samples of shapes ``[n_x, n_features]`` and ``[n_y, n_features]``.
    level
        Share of the bootstrap distances that lie inside.
    n_bootstrap
        How often both samples' cells are drawn again, with replacement.
    random_state
        Seed of these draws.

    Returns
    -------
    Lower and upper ends, each of shape ``[n_features]`` (percentile interval).
    """
    rng = np.random.default_rng(random_state)
    distances = [
        feature_emd(x[rng.integers(len(x), size=len(x))], y[rng.integers(len(y), size=len(y))])
        for _ in range(n_bootstrap)
    ]
    low, high = np.quantile(distances, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def pearson_delta(predicted: NDArray, truth: NDArray, control: NDArray) -> float:
    """Pearson correlation, over features, of the predicted with the true change of the mean.

    Parameters
    ----------
    predicted, truth, control
        Cells of shape ``[n_cells, n_features]``, each population with its own number.

    Returns
    -------
    Correlation; NaN if the prediction is no change at all.
    """
    change, true_change = (x.mean(axis=0) - control.mean(axis=0) for x in (predicted, truth))
    if np.ptp(change) == 0 or np.ptp(true_change) == 0:
        return float("nan")
    return float(np.corrcoef(change, true_change)[0, 1])
