"""Carry values that are often zero over an edit, each keeping its quantile among those decoded alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# number of cells between the edges of bins: at both ends, and the most it grows to, if not one in 20 of all cells
_FIRST_STEP, _LAST_STEP = 10, 25
_BLOCK = 1_000


@dataclass(frozen=True, eq=False)
class LevelDistributions:
    r"""How values of each feature, zero or positive, are distributed around what an autoencoder decodes.

    The distribution :math:`F_j(\cdot \mid m)` of feature :math:`j` among cells decoded to :math:`m` is read off cells whose
    decoded values are alike: cells are sorted by :math:`m`, and the share of zeros and quantiles of the positive values taken in
    overlapping bins. Bins are narrower towards both ends, where few cells of a rare kind may be all there is. Between the
    centers of two bins the distribution is the mixture of theirs.

    Parameters
    ----------
    centers
        Mean decoded value of each bin, increasing, of shape ``[n_bins, n_features]``.
    zeros
        Share of zeros in each bin, of the same shape.
    quantiles
        Quantiles of the positive values in each bin, of shape ``[n_bins, n_features, n_quantiles]``; 0 where there are none.
    """

    centers: NDArray[np.float32]
    zeros: NDArray[np.float32]
    quantiles: NDArray[np.float32]

    @classmethod
    def fit(cls, values: NDArray, decoded: NDArray, n_quantiles: int = 25) -> LevelDistributions:
        """Read the distributions off cells.

        Parameters
        ----------
        values, decoded
            Values, and what they are decoded to, each of shape ``[n_cells, n_features]``.
        n_quantiles
            Number of quantiles in each bin.
        """
        bins = _overlapping_bins(len(values))
        shape = len(bins), values.shape[1]
        levels = cls(*(np.empty(size, dtype=np.float32) for size in (shape, shape, (*shape, n_quantiles))))
        share = (np.arange(n_quantiles) + 0.5) / n_quantiles
        for first in range(0, values.shape[1], _BLOCK):
            block = slice(first, first + _BLOCK)
            order = np.argsort(decoded[:, block], axis=0)
            x, m = (np.take_along_axis(a[:, block], order, axis=0) for a in (values, decoded))
            for i, rows in enumerate(bins):
                n_zeros = (x[rows] <= 0).sum(axis=0)
                n_positive = rows.stop - rows.start - n_zeros
                ranks = n_zeros[:, None] + (share * n_positive[:, None]).astype(np.intp)
                ranks = np.minimum(ranks, rows.stop - rows.start - 1)  # all are zeros
                levels.centers[i, block] = m[rows].mean(axis=0)
                levels.zeros[i, block] = n_zeros / (rows.stop - rows.start)
                levels.quantiles[i, block] = np.take_along_axis(np.sort(x[rows], axis=0).T, ranks, axis=1)
        return levels

    def carry(
        self, values: NDArray, before: NDArray, after: NDArray, points: NDArray, sides: NDArray
    ) -> NDArray[np.float32]:
        r"""Move values, none of them negative, from one decoded value to another, each keeping its own quantile.

        :math:`x' = F_j^{-1}(F_j(x \mid m) \mid m')`, the transform of changes-in-changes (Athey & Imbens, 2006) given the
        decoded value. For a zero a point is taken at random from the zeros' part of the distribution (Dunn & Smyth, 1996): a
        higher decoded value makes some zeros positive, not all of them a little. Outside of all bins, positive values
        move as much as the decoded value.

        Parameters
        ----------
        values
            Values of shape ``[n_cells, n_features]``.
        before, after
            What they are decoded to before and after an edit, of the same shape.
        points, sides
            Where among its equals a value is, and which of two bins it follows if it is between them: evenly distributed from
            0 to 1, of the same shape; see :class:`CellDraws`.

        Returns
        -------
        Values of shape ``[n_cells, n_features]``; those whose decoded value does not change stay what they are.
        """
        bins = [np.floor(self._position(decoded) + sides).astype(np.intp) for decoded in (before, after)]
        zeros = [np.take_along_axis(self.zeros, which, axis=0) for which in bins]
        # nearly all values of sparse data are zeros that stay zero: only the others need the quantiles
        stays_zero = (values <= 0) & (points * zeros[0] < zeros[1])
        cell, feature = np.nonzero((bins[0] != bins[1]) & ~stays_zero)
        x, u, z, z_after, *rows = (a[cell, feature] for a in (values, points, *zeros, *bins))
        own, new = (self.quantiles[which, feature] for which in rows)
        every, n_quantiles = np.arange(len(x)), own.shape[1]

        # where among the positive values: those equal to it, or the halves of the two quantiles it is between
        n_below, n_up_to = (own < x[:, None]).sum(axis=1), (own <= x[:, None]).sum(axis=1)
        half = 0.5 * (n_below == n_up_to)
        n_below, n_up_to = np.maximum(n_below - half, 0), np.minimum(n_up_to + half, n_quantiles)
        place = (n_below + u * (n_up_to - n_below)) / n_quantiles
        probability = np.where(x > 0, z + (1 - z) * place, u * z)
        place_after = (probability - z_after) / np.maximum(1 - z_after, 1e-9)
        rank, rank_after = (np.clip(p * n_quantiles, 0, n_quantiles - 1).astype(np.intp) for p in (place, place_after))
        # a value keeps its distance from its quantile
        moved = new[every, rank_after] + np.where(x > 0, x - own[every, rank], 0)
        moved = np.where((place_after < 0) | (z_after == 1), 0, np.maximum(moved, 0))
        carried = values.astype(np.float32)
        carried[cell, feature] = np.where((x > 0) & (z == 1), x, moved)  # nothing like it was seen
        beyond = self._beyond(after) - self._beyond(before)
        return np.where(carried > 0, np.maximum(carried + beyond, 0), 0)

    def _position(self, decoded: NDArray) -> NDArray:
        """Where among the bins decoded values lie: at whole numbers on their centers, none outside of them."""
        if len(self.centers) == 1:
            return np.zeros(decoded.shape)
        lower = np.zeros(decoded.shape, dtype=np.int16)
        for center in self.centers[1:-1]:
            lower += decoded >= center
        lower = lower.astype(np.intp)
        low, high = (np.take_along_axis(self.centers, lower + i, axis=0) for i in (0, 1))
        share = np.divide(decoded - low, high - low, out=np.zeros_like(decoded), where=high > low)
        return lower + np.clip(share, 0, 1)

    def _beyond(self, decoded: NDArray) -> NDArray:
        """How far above the last center, or (negative) below the first one, decoded values lie."""
        return decoded - np.clip(decoded, self.centers[0], self.centers[-1])


def _overlapping_bins(n_cells: int) -> list[slice]:
    """Ranks of the cells of each bin, which ends where the next but one begins."""
    edges, step = [0], _FIRST_STEP
    while edges[-1] + step < n_cells / 2:
        edges.append(edges[-1] + step)
        step = min(round(1.5 * step), max(_LAST_STEP, n_cells // 20))
    edges += [n_cells - edge for edge in reversed(edges)]
    return [slice(start, stop) for start, stop in zip(edges[:-2], edges[2:], strict=True)] or [slice(0, n_cells)]
