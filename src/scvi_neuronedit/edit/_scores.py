"""Scores by which an edit is chosen, and predictions are judged."""

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
