"""How far off a predicted change may be for a group of cells that was never seen after the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.isotonic import IsotonicRegression

if TYPE_CHECKING:
    from numpy.typing import NDArray


def extrapolation_std(change: NDArray, predicted: NDArray, true: NDArray) -> NDArray[np.float64]:
    r"""Standard deviation of the error of each feature's predicted change, from groups left out of learning.

    A feature's mean squared error over a few groups is itself uncertain, and small by chance for many of thousands. So its
    variance is the mean of that and of what features with a predicted change of this size show, over all groups: the
    isotonic regression of squared error on absolute predicted change. This is the moderation of variances towards a trend
    of Smyth (2004), with the trend weighing as much as the feature's own.

    Parameters
    ----------
    change
        Predicted change of each feature, of shape ``[n_features]``.
    predicted, true
        Predicted and true change of every group left out, each of shape ``[n_groups, n_features]``.

    Returns
    -------
    Array of shape ``[n_features]``; NaN where no group was left out.
    """
    if not len(true):
        return np.full(len(change), np.nan)
    errors = (predicted - true) ** 2
    trend = IsotonicRegression(out_of_bounds="clip").fit(np.abs(predicted).ravel(), errors.ravel())
    return np.sqrt((errors.mean(axis=0) + trend.predict(np.abs(change))) / 2)
