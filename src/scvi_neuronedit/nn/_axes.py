"""Of the layers that a graph penalty cannot tell apart, the one whose neurons are easiest to read."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOLERANCE = 1e-5  # Laplacians are kept in single precision
_N_SWEEPS = 5


def readable_axes(activations: NDArray, roughness: NDArray) -> NDArray[np.float64]:
    r"""Invertible map of the activations of a linear layer that a graph penalty does not see, and that makes them readable.

    If a linear layer is multiplied by :math:`M`, and the layer that reads it by :math:`M^{-1}`, the network computes the
    same. The penalty :math:`z^\top Q z` is the same too if :math:`M` is orthogonal and commutes with :math:`Q`, or acts on
    what :math:`Q` maps to 0. So training leaves two things open:

    - On a connected graph, the sign of each smooth pattern (the part of z along an eigenvector of :math:`Q`). A neuron in the
      middle of a path is as likely to be silent in the cells of the middle as active in them. Signs are chosen for neurons
      that are active in few cells rather than silent in few: the sum of their third central moments is raised, by one
      pattern after the other. Where an eigenvalue has several eigenvectors, as on a ring, they are left alone.
    - On a graph in pieces, how the patterns of its components are mixed. One component may hold the sum of two modules, another
      their difference. They are made independent by independent component analysis (FastICA)
      and keep their mean variance.

    Parameters
    ----------
    activations
        Activations of shape ``[n_cells, n_neurons]``.
    roughness
        :math:`Q`, symmetric, of shape ``[n_neurons, n_neurons]``.

    Returns
    -------
    :math:`M`, of shape ``[n_neurons, n_neurons]``. The identity where nothing is left open.
    """
    z = np.asarray(activations, dtype=np.float64)
    z = z - z.mean(axis=0)
    n_components, component = connected_components(np.abs(roughness) > 0, directed=False)
    if n_components == 1:
        return _with_signs(z, roughness)
    return _unmixed(z, roughness, [np.flatnonzero(component == k) for k in range(n_components)])


def _with_signs(z: NDArray, roughness: NDArray) -> NDArray[np.float64]:
    values, patterns = np.linalg.eigh(roughness)
    gap = np.diff(values, prepend=-np.inf, append=np.inf) > _TOLERANCE * np.abs(values).max()
    parts = z @ patterns
    variance = parts.var(axis=0)
    is_free = gap[:-1] & gap[1:] & (variance > _TOLERANCE * variance.sum())
    strongest_first = [k for k in np.argsort(-variance) if is_free[k]]
    signs, moment = np.ones(len(values)), (z**3).sum()
    for _ in range(_N_SWEEPS):
        before = moment
        for k in strongest_first:
            turned = z - 2 * signs[k] * np.outer(parts[:, k], patterns[:, k])
            if (turned**3).sum() > moment + _TOLERANCE * abs(moment):
                signs[k], z, moment = -signs[k], turned, (turned**3).sum()
        if moment == before:
            break
    return (patterns * signs) @ patterns.T


def _unmixed(z: NDArray, roughness: NDArray, components: list[NDArray]) -> NDArray[np.float64]:
    patterns = []
    for members in components:
        values, vectors = np.linalg.eigh(roughness[np.ix_(members, members)])
        pattern = np.zeros(z.shape[1])
        pattern[members] = vectors[:, 0]  # the same in all neurons, but for their degrees
        patterns.append(pattern * np.sign(pattern.sum()))
        if abs(values[0]) > _TOLERANCE * np.abs(values).max():
            return np.eye(z.shape[1])
    patterns = np.stack(patterns, axis=1)[:, [len(members) > 1 for members in components]]
    variance = (z @ patterns).var(axis=0)
    patterns = patterns[:, variance > _TOLERANCE * variance.sum()]
    parts = z @ patterns
    if parts.shape[1] < 2 or np.linalg.cond(np.cov(parts, rowvar=False)) > 1 / _TOLERANCE:
        return np.eye(z.shape[1])
    analysis = FastICA(whiten="unit-variance", random_state=0, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nothing is lost if no mixture is better than another
        sources = analysis.fit_transform(parts)
    # each component gets the source it was most alike, turned the same way
    alike = np.corrcoef(parts, sources, rowvar=False)[: parts.shape[1], parts.shape[1] :]
    order = linear_sum_assignment(-np.abs(alike))[1]
    signs = np.sign(alike[np.arange(len(order)), order])
    unmix = np.sqrt(parts.var(axis=0).mean()) * signs[:, None] * analysis.components_[order]
    return np.eye(z.shape[1]) + patterns @ (unmix - np.eye(len(order))) @ patterns.T
