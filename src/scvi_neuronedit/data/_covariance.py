"""Correlation of features with neurons, minibatch by minibatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


@dataclass(frozen=True)
class CrossCovariance:
    """Covariances between features x and neurons z over cells.

    Parameters
    ----------
    x_variance
        Variance of each feature, of shape ``[n_features]``.
    xz
        Covariances of shape ``[n_features, n_neurons]``.
    zz
        Covariances of shape ``[n_neurons, n_neurons]``.
    """

    x_variance: NDArray[np.float64]
    xz: NDArray[np.float64]
    zz: NDArray[np.float64]

    @classmethod
    def of(cls, minibatches: Iterable[tuple[NDArray, NDArray]]) -> CrossCovariance:
        """Sum over minibatches.

        Parameters
        ----------
        minibatches
            Pairs of x and z of shapes ``[n_cells, n_features]`` and ``[n_cells, n_neurons]``.
        """
        n, sums = 0, None
        for x, z in minibatches:
            x, z = x.astype(np.float64), z.astype(np.float64)
            if sums is None:  # centred on the first minibatch, lest large means cancel
                x_origin, z_origin = x.mean(axis=0), z.mean(axis=0)
                sums = [0.0] * 5
            x, z = x - x_origin, z - z_origin
            n += len(x)
            parts = x.sum(axis=0), z.sum(axis=0), (x**2).sum(axis=0), x.T @ z, z.T @ z
            sums = [total + part for total, part in zip(sums, parts, strict=True)]
        x_mean, z_mean, xx, xz, zz = (total / n for total in sums)
        return cls(np.maximum(xx - x_mean**2, 0), xz - np.outer(x_mean, z_mean), zz - np.outer(z_mean, z_mean))

    def correlation(self, weights: NDArray | None = None) -> NDArray[np.float64]:
        """Pearson correlation of every feature with every neuron, or with weighted sums of them; 0 for constants.

        Parameters
        ----------
        weights
            Weights of the sums, of shape ``[n_neurons, n_sums]``.
        """
        weights = np.eye(len(self.zz)) if weights is None else weights
        variance = np.einsum("js,jk,ks->s", weights, self.zz, weights, optimize=True)
        size = np.sqrt(np.outer(self.x_variance, np.maximum(variance, 0)))
        covariance = self.xz @ weights
        return np.divide(covariance, size, out=np.zeros_like(covariance), where=size > 1e-12)
