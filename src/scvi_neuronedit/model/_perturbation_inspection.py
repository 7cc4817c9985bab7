"""Looking inside models of perturbations: latent variables, effects, bounds of the likelihood."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from scvi_neuronedit.model._random import seeded
from scvi_neuronedit.model._rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

_N_PARTICLES_AT_ONCE = 5


class PerturbationInspectionMixin:
    """Methods that say what a model of perturbations has learnt."""

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        *,
        with_effect: bool = False,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Latent variables of each cell: the mean of their guide, at the posterior mean of the shifts.

        Parameters
        ----------
        adata
            AnnData with the model's features, in any order, and the registered labels or dosages; need not be registered
            itself. The model's own if ``None``.
        indices
            Positions of the cells, in the order wanted. All if ``None``.
        with_effect
            Whether to add the shifts of the cell's perturbations to its basal latent variables.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.

        Returns
        -------
        Array of shape ``[n_cells, n_latent]``.
        """
        adata = self._checked_adata(adata)
        if with_effect and self.module.shift is None:
            msg = f"with_effect=True, but in {type(self).__name__} perturbations do not shift the latent variables."
            raise ValueError(msg)
        rows = rows_of(adata, indices)
        parts = [np.empty((0, self.module.n_latent), dtype=np.float32)]
        for x, _, _, basal, shift in self._encoded_minibatches(adata, rows, batch_size):
            z = (basal + shift if with_effect else basal).reshape(len(x), -1)
            parts.append(z.cpu().numpy())
        return np.concatenate(parts)

    def get_perturbation_effects(self) -> pd.DataFrame:
        """Posterior of the latent shifts.

        Returns
        -------
        A row for each perturbation and latent variable, with ``perturbation``, ``latent``, ``inclusion_probability`` (of the mask
        being 1; 1 without masks), and ``mean`` and ``sd`` of the shift, mask times effect.

        Raises
        ------
        ValueError
            Perturbations do not shift the latent variables of this model.
        """
        self._check_trained()
        if self.module.shift is None:
            msg = f"in {type(self).__name__} perturbations do not shift the latent variables."
            raise ValueError(msg)
        with torch.inference_mode(), seeded(0):
            moments = [value.cpu().numpy().ravel() for value in self.module.shift.moments()]
        n_latent = self.module.n_latent
        columns = dict(zip(("inclusion_probability", "mean", "sd"), moments, strict=True))
        names = np.repeat(self.perturbations, n_latent)
        latent = np.tile(np.arange(n_latent), len(self.perturbations))
        return pd.DataFrame({"perturbation": names, "latent": latent, **columns})

    def get_elbo(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        *,
        n: int = 5,
        return_mean: bool = True,
        random_state: int = 0,
        batch_size: int | None = None,
    ) -> float | NDArray[np.float64]:
        """Evidence lower bound per cell: the negative training loss.

        Parameters
        ----------
        adata, indices, batch_size
            As for :meth:`get_latent_representation`.
        n
            Number of draws of the latent variables.
        return_mean
            Whether to return the mean over cells.
        random_state
            Seed of the draws.

        Returns
        -------
        In nats: expected log-likelihood minus the divergence of the basal latent variables, minus the global term
        divided by the number of training cells. The mean, or the values of all cells.
        """
        adata = self._checked_adata(adata)
        rows = rows_of(adata, indices)
        elbo = np.zeros(len(rows))
        with torch.inference_mode(), seeded(random_state):
            for where, _, x, dosage, batch in self._minibatches(adata, rows, batch_size):
                for n_particles in _chunks(n):
                    terms = self.module.elbo(x, dosage, batch, n_particles, self.n_train_)
                    elbo[where] += terms.cpu().numpy() * n_particles / n
        return float(elbo.mean()) if return_mean else elbo

    def get_iwelbo(
        self,
        n: int = 100,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        *,
        return_mean: bool = True,
        random_state: int = 0,
        batch_size: int | None = None,
    ) -> float | NDArray[np.float64]:
        r"""Importance-weighted bound per cell, :math:`\log \frac{1}{n} \sum_p p(x, z_p) / q(z_p)`.

        The shifts are drawn from their guide and, as in the paper, not scored; the library size is that observed. So
        compare it only between models of the same cells and features.

        Parameters
        ----------
        n
            Number of draws.
        adata, indices, batch_size
            As for :meth:`get_latent_representation`.
        return_mean
            Whether to return the mean over cells.
        random_state
            Seed of the draws.

        Returns
        -------
        In nats: the mean, or the values of all cells.
        """
        adata = self._checked_adata(adata)
        rows = rows_of(adata, indices)
        bound = np.zeros(len(rows))
        with torch.inference_mode(), seeded(random_state):
            for where, _, x, dosage, batch in self._minibatches(adata, rows, batch_size):
                log_weights = [self.module.log_weights(x, dosage, batch, size) for size in _chunks(n)]
                bound[where] = (torch.cat(log_weights).logsumexp(0) - math.log(n)).cpu().numpy()
        return float(bound.mean()) if return_mean else bound


def _chunks(n: int) -> Iterator[int]:
    """``n`` draws in parts that fit in memory."""
    if n < 1:
        msg = f"n={n}; it must be at least 1."
        raise ValueError(msg)
    for first in range(0, n, _N_PARTICLES_AT_ONCE):
        yield min(_N_PARTICLES_AT_ONCE, n - first)
