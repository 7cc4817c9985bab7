"""Carry each cell's own residual, what the autoencoder does not explain, over an edit."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIN_BIN_CELLS = 50


def carry_counts(
    counts: NDArray,
    mean_before: NDArray,
    mean_after: NDArray,
    rng: np.random.Generator,
    inverse_dispersion: NDArray | None = None,
) -> NDArray[np.float32]:
    """Move counts from one distribution to another, each keeping its own quantile.

    A count :math:`x` stands for the interval :math:`(F(x - 1), F(x)]` of the distribution before the edit. A point is
    drawn from it evenly (the randomised quantile residual of Dunn & Smyth, 1996) and read off the distribution
    after the edit, so counts that follow the first distribution follow the second one afterwards, and a count
    whose mean does not change stays what it is.

    Parameters
    ----------
    counts
        Counts of shape ``[n_cells, n_genes]``. Fractions are rounded where the mean changes.
    mean_before, mean_after
        Means of each count before and after the edit, positive, of the same shape.
    rng
        Source of the points within the intervals.
    inverse_dispersion
        Inverse dispersions of the negative binomial, of shape ``[n_genes]``. Poisson if ``None``.

    Returns
    -------
    Counts of shape ``[n_cells, n_genes]``.
    """
    mean_before, mean_after = mean_before.astype(np.float64), mean_after.astype(np.float64)
    if inverse_dispersion is not None:
        inverse_dispersion = np.broadcast_to(inverse_dispersion, counts.shape).astype(np.float64)
    position = rng.random(counts.shape)
    # nearly all counts are zeros that stay zero: only the others need the full distributions
    zero_before = _probability_of_zero(mean_before, inverse_dispersion)
    zero_after = _probability_of_zero(mean_after, inverse_dispersion)
    moves = ((counts > 0) | (position * zero_before > zero_after)) & (mean_after != mean_before)

    x, v, m_before, m_after = np.rint(counts[moves]), position[moves], mean_before[moves], mean_after[moves]
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


@dataclass(frozen=True, eq=False)
class LevelDistributions:
    r"""How values of each feature are distributed around what an autoencoder decodes.

    The distribution :math:`F_j(\cdot \mid m)` of feature :math:`j` among cells decoded to :math:`m` is read off cells whose
    decoded values are alike: cells are sorted by :math:`m`, and quantiles taken in overlapping bins of equal size. Between
    the centers of two bins the distribution is the mixture of theirs.

    Parameters
    ----------
    centers
        Mean decoded value of each bin, increasing, of shape ``[n_bins, n_features]``.
    quantiles
        Quantiles of the values in each bin, of shape ``[n_bins, n_features, n_quantiles]``.
    """

    centers: NDArray[np.float32]
    quantiles: NDArray[np.float32]

    @classmethod
    def fit(cls, values: NDArray, decoded: NDArray, n_bins: int = 40, n_quantiles: int = 50) -> LevelDistributions:
        """Read the quantiles off cells.

        Parameters
        ----------
        values, decoded
            Values, and what they are decoded to, each of shape ``[n_cells, n_features]``.
        n_bins
            Number of bins. Each holds 2 in ``n_bins`` of the cells, but at least 50, or a quarter if that is fewer.
        n_quantiles
            Number of quantiles in each.
        """
        order = np.argsort(decoded, axis=0)
        values, decoded = (np.take_along_axis(x, order, axis=0) for x in (values, decoded))
        n_cells = max(min(_MIN_BIN_CELLS, math.ceil(len(values) / 4)), 2 * len(values) // n_bins)
        bins = [
            slice(first, first + n_cells) for first in np.linspace(0, len(values) - n_cells, n_bins).astype(np.intp)
        ]
        ranks = ((np.arange(n_quantiles) + 0.5) / n_quantiles * n_cells).astype(np.intp)
        return cls(
            np.stack([decoded[rows].mean(axis=0) for rows in bins]),
            np.stack([np.sort(values[rows], axis=0)[ranks].T for rows in bins]),
        )

    def carry(self, values: NDArray, before: NDArray, after: NDArray) -> NDArray[np.float32]:
        r"""Move values, none of them negative, from one decoded value to another, each keeping its own quantile.

        :math:`x' = F_j^{-1}(F_j(x \mid m) \mid m')`, the transform of changes-in-changes (Athey & Imbens, 2006) given the
        decoded value. Where many values are equal, as zeros are, a point is drawn evenly from their part of the
        distribution (Dunn & Smyth, 1996): a higher mean makes some zeros positive, not all of them a little. Above the
        last bin, positive values move as much as the decoded value.

        Parameters
        ----------
        values
            Values of shape ``[n_cells, n_features]``.
        before, after
            What they are decoded to before and after an edit, of the same shape.

        Returns
        -------
        Values of shape ``[n_cells, n_features]``; those whose decoded value does not change stay what they are. The draws
        depend on nothing but the cell itself, so the same cell always becomes the same.
        """
        draws = _draws(values)
        bins = [np.floor(self._position(decoded) + draws[0]).astype(np.intp) for decoded in (before, after)]
        # nearly all values of sparse data are zeros that stay zero: only the others need the full distributions
        n_zeros = (self.quantiles <= 0).sum(axis=2)
        zeros_before, zeros_after = (np.take_along_axis(n_zeros, which, axis=0) for which in bins)
        stays_zero = (values <= 0) & (draws[1] * zeros_before < zeros_after)
        cell, feature = np.nonzero((bins[0] != bins[1]) & ~stays_zero)
        x, position, bin_before, bin_after = (a[cell, feature] for a in (values, draws[1], *bins))
        own = self.quantiles[bin_before, feature]
        n_below, n_up_to = (own < x[:, None]).sum(axis=1), (own <= x[:, None]).sum(axis=1)
        rank = n_below + (position * (n_up_to - n_below)).astype(np.intp)
        rank = np.minimum(rank, own.shape[1] - 1)
        moved = self.quantiles[bin_after, feature, rank]
        # a value between two quantiles keeps its distance from the upper one, unless that becomes zero
        distance = x - self.quantiles[bin_before, feature, rank]
        carried = values.astype(np.float32)
        carried[cell, feature] = np.where(moved > 0, np.maximum(moved + distance, 0), 0)
        beyond = np.maximum(after, self.centers[-1]) - np.maximum(before, self.centers[-1])
        return np.where(carried > 0, np.maximum(carried + beyond, 0), 0)

    def _position(self, decoded: NDArray) -> NDArray:
        """Where among the bins decoded values lie: at whole numbers on their centers, none outside of them."""
        lower = np.zeros(decoded.shape, dtype=np.int16)
        for center in self.centers[1:-1]:
            lower += decoded >= center
        lower = lower.astype(np.intp)
        low, high = (np.take_along_axis(self.centers, lower + i, axis=0) for i in (0, 1))
        share = np.divide(decoded - low, high - low, out=np.zeros_like(decoded), where=high > low)
        return lower + np.clip(share, 0, 1)


def _draws(cells: NDArray) -> NDArray[np.float64]:
    """Two random numbers for every value, of shape ``[2, n_cells, n_features]``, seeded by the cell's own values."""
    seeds = [zlib.crc32(np.ascontiguousarray(cell, dtype=np.float32)) for cell in cells]
    return np.stack([np.random.default_rng(seed).random((2, cells.shape[1])) for seed in seeds], axis=1)
