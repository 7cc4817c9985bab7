"""Percentile tables of activations, and the piecewise look-up that every percentile edit is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS_PER_BLOCK = 16
_N_BINS = 256


def percentile_table(
    activations: NDArray,
    n_quantiles: int = 101,
    weights: NDArray | None = None,
) -> NDArray:
    """Evenly spaced quantiles of every neuron.

    Without weights these are exactly the quantiles of :func:`numpy.quantile` (``method="linear"``), read off one
    sort of each column. With weights the k-th smallest value sits at the share of the weight between the smallest
    value and itself, each gap counting the mean weight of its two ends; equal weights give the unweighted table.

    Parameters
    ----------
    activations
        Activations of shape ``[n_cells, n_neurons]``.
    n_quantiles
        Number of quantiles, from the minimum to the maximum. 101 gives the percentiles 0 to 100.
    weights
        Weights of shape ``[n_cells]``, positive. All equal if ``None``.

    Returns
    -------
    Array of shape ``[n_quantiles, n_neurons]`` in the dtype of ``activations``, increasing along the first axis.
    """
    if n_quantiles < 2:
        msg = f"n_quantiles is {n_quantiles}; a table needs at least 2 (the minimum and the maximum)."
        raise ValueError(msg)
    n_cells, n_neurons = activations.shape
    levels = np.linspace(0, 1, n_quantiles)
    table = np.empty((n_quantiles, n_neurons), dtype=activations.dtype)
    for first in range(0, n_neurons, _COLUMNS_PER_BLOCK):
        # sorting is several times faster along contiguous memory
        block = np.array(activations[:, first : first + _COLUMNS_PER_BLOCK].T, order="C")
        if weights is None:
            block.sort(axis=1)
            position = levels * (n_cells - 1)
            below = np.minimum(position.astype(np.intp), max(n_cells - 2, 0))
            above = np.minimum(below + 1, n_cells - 1)
            share = (position - below).astype(block.dtype)
            quantiles = block[:, below] + share * (block[:, above] - block[:, below])
        else:
            order = np.argsort(block, axis=1)
            quantiles = np.stack(
                [
                    _weighted_quantiles(*pair, levels)
                    for pair in zip(np.take_along_axis(block, order, 1), weights[order], strict=True)
                ]
            )
        table[:, first : first + _COLUMNS_PER_BLOCK] = quantiles.T
    return table


def _weighted_quantiles(values: NDArray, weights: NDArray, levels: NDArray) -> NDArray:
    position = np.concatenate([[0.0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
    return np.interp(levels * position[-1], position, values)


class LookUp:
    """A piecewise function for every neuron: constant outside the knots, linear or stepwise between them.

    The stepwise form is ``values[q]`` for ``knots[q] <= a < knots[q + 1]``. In the linear form knots that coincide
    (many equal activations, such as the zeros of an output layer) carry the mean of their values, so that a
    population keeps the mean of its shifts.

    Parameters
    ----------
    knots
        Array of shape ``[n_knots, n_neurons]``, increasing along the first axis.
    values
        Array of shape ``[n_knots, n_neurons]``: the value of the function at each knot.
    interpolation
        ``"linear"`` or ``"step"``.
    """

    def __init__(self, knots: NDArray, values: NDArray, interpolation: str = "linear") -> None:
        knots = np.ascontiguousarray(knots.T, dtype=np.float64)
        values = np.ascontiguousarray(values.T, dtype=np.float64)
        if interpolation == "linear":
            knots, values = _merge_equal_knots(knots, values)
        self._knots, self._values = knots, values
        self._linear = interpolation == "linear"
        # a fine even grid answers "which knots lie around a" in a step or two, where bisection takes log2(n_knots)
        last = np.where(np.isfinite(knots), knots, -np.inf).max(axis=1)
        self._bins_per_unit = np.divide(_N_BINS, last - knots[:, 0], out=np.zeros(len(knots)), where=last > knots[:, 0])
        edges = np.arange(_N_BINS) / _N_BINS
        edges = knots[:, :1] + edges * (last - knots[:, 0])[:, None]
        self._first_knot = (
            np.stack([np.searchsorted(k, e, side="right") - 1 for k, e in zip(knots, edges, strict=True)])
            .clip(0)
            .astype(np.int32)
        )

    def __call__(self, activations: NDArray) -> NDArray:
        """Evaluate the function.

        Parameters
        ----------
        activations
            Array of shape ``[n_cells, n_neurons]``.

        Returns
        -------
        Array of the shape and dtype of ``activations``.
        """
        result = np.empty_like(activations, order="C")
        _evaluate(
            np.ascontiguousarray(activations),
            self._knots,
            self._values,
            self._first_knot,
            self._bins_per_unit,
            self._linear,
            result,
        )
        return result


def _merge_equal_knots(knots: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    """Replace runs of equal knots by one knot with their mean value; pad with knots at infinity."""
    if (np.diff(knots, axis=1) > 0).all():
        return knots, values
    merged_knots = np.full_like(knots, np.inf)
    merged_values = np.empty_like(values)
    for j in range(len(knots)):
        unique, run, length = np.unique(knots[j], return_inverse=True, return_counts=True)
        merged_knots[j, : len(unique)] = unique
        merged_values[j, : len(unique)] = np.bincount(run, weights=values[j]) / length
        merged_values[j, len(unique) :] = merged_values[j, len(unique) - 1]
    return merged_knots, merged_values


@numba.njit(parallel=True, cache=True)
def _evaluate(activations, knots, values, first_knot, bins_per_unit, linear, result):  # pragma: no cover (compiled)
    n_cells, n_neurons = activations.shape
    n_knots = knots.shape[1]
    for i in numba.prange(n_cells):
        for j in range(n_neurons):
            a = activations[i, j]
            if a < knots[j, 0]:
                result[i, j] = values[j, 0]
                continue
            position = (a - knots[j, 0]) * bins_per_unit[j]
            q = first_knot[j, int(min(position, _N_BINS - 1))]
            # rounding can put a one bin too high
            while q > 0 and knots[j, q] > a:
                q -= 1
            while q + 1 < n_knots and knots[j, q + 1] <= a:
                q += 1
            value = values[j, q]
            if linear and q + 1 < n_knots:
                share = (a - knots[j, q]) / (knots[j, q + 1] - knots[j, q])
                value += share * (values[j, q + 1] - value)
            result[i, j] = value
