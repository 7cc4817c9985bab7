"""Carry each cell's own residual, what the autoencoder does not explain, over an edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray


def carry_counts(
    counts: NDArray,
    mean_before: NDArray,
    mean_after: NDArray,
    points: NDArray,
    inverse_dispersion: NDArray | None = None,
) -> NDArray[np.float32]:
    """Move counts from one distribution to another, each keeping its own quantile.

    A count :math:`x` stands for the interval :math:`(F(x - 1), F(x)]` of the distribution before the edit. A point is
    taken from it at random (the randomised quantile residual of Dunn & Smyth, 1996) and read off the distribution
    after the edit, so counts that follow the first distribution follow the second one afterwards, and a count
    whose mean does not change stays what it is.

    Parameters
    ----------
    counts
        Counts of shape ``[n_cells, n_genes]``. Fractions are rounded where the mean changes.
    mean_before, mean_after
        Means of each count before and after the edit, positive, of the same shape.
    points
        Where within the intervals, evenly distributed from 0 to 1, of the same shape; see :class:`CellDraws`.
    inverse_dispersion
        Inverse dispersions of the negative binomial, of shape ``[n_genes]``. Poisson if ``None``.

    Returns
    -------
    Counts of shape ``[n_cells, n_genes]``.
    """
    mean_before, mean_after = mean_before.astype(np.float64), mean_after.astype(np.float64)
    if inverse_dispersion is not None:
        inverse_dispersion = np.broadcast_to(inverse_dispersion, counts.shape).astype(np.float64)
    # nearly all counts are zeros that stay zero: only the others need the full distributions
    zero_before = _probability_of_zero(mean_before, inverse_dispersion)
    zero_after = _probability_of_zero(mean_after, inverse_dispersion)
    moves = ((counts > 0) | (points * zero_before > zero_after)) & (mean_after != mean_before)

    x, v, m_before, m_after = np.rint(counts[moves]), points[moves], mean_before[moves], mean_after[moves]
    r = None if inverse_dispersion is None else inverse_dispersion[moves]
    before, after = _distribution(m_before, r), _distribution(m_after, r)
    # the upper half is counted from above, where 1 - F keeps its precision
    mass = before.pmf(x)
    lower = before.cdf(x) - (1 - v) * mass
    upper = before.sf(x) + (1 - v) * mass
    moved = np.where(lower < 0.5, after.ppf(lower), after.isf(upper))
    # a count so far out that its quantile underflows moves as much as the mean does
    moved = np.where(np.isfinite(moved), moved, np.rint(x + m_after - m_before))

    carried = counts.astype(np.float32)
    carried[moves] = np.maximum(moved, 0)
    return carried


def _distribution(mean: NDArray, inverse_dispersion: NDArray | None) -> stats.rv_discrete:
    if inverse_dispersion is None:
        return stats.poisson(mean)
    return stats.nbinom(inverse_dispersion, inverse_dispersion / (inverse_dispersion + mean))


def _probability_of_zero(mean: NDArray, inverse_dispersion: NDArray | None) -> NDArray:
    if inverse_dispersion is None:
        return np.exp(-mean)
    return np.exp(-inverse_dispersion * np.log1p(mean / inverse_dispersion))
