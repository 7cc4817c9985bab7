"""What an edit does to each feature, and how certain that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from scvi_neuronedit.edit import extrapolation_std

if TYPE_CHECKING:
    from anndata import AnnData

    from scvi_neuronedit.data import Selection
    from scvi_neuronedit.edit import Edit

N_QUERY_CELLS = 500


class EffectMixin:
    """Methods that summarise an edit feature by feature."""

    def get_edit_effect(
        self,
        edit: Edit,
        query: Selection | None = None,
        adata: AnnData | None = None,
        *,
        level: float = 0.9,
        n_bootstrap: int = 10,
        random_state: int = 0,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        r"""Predicted change of every feature's mean over the query, with an interval for the true change.

        Two errors are estimated and their variances added. *Sampling*: the edit is learnt again on bootstrap samples
        of source and target cells, and with several networks each time with another one. *Extrapolation*: each group
        (label, else a fifth of the cells) is left out of learning in turn; see
        :func:`~scvi_neuronedit.edit.extrapolation_std`. The interval is :math:`\pm t` standard deviations, with as many
        degrees of freedom as groups were left out. How often intervals hold the truth is measured in the user guide.

        Parameters
        ----------
        edit
            An edit learnt by this model on its own data, not chained.
        query
            The cells. As for :meth:`apply_edit` if ``None``.
        adata
            AnnData that holds the query. The model's own if ``None``.
        level
            Share of true changes the intervals are to hold.
        n_bootstrap
            Number of bootstrap samples, at least 2.
        random_state
            Seed of all samples. At most 500 query cells are used.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.

        Returns
        -------
        A row for each of the model's features: ``change``, ``lower``, ``upper``, ``std_sampling``,
        ``std_extrapolation`` (NaN where fewer than two groups have 20 cells on both sides), and ``share``, the share of
        query cells that change in the direction of the mean. In units of the registered layer; for counts, of log1p of
        counts per 10,000.
        """
        adata = self._checked_adata(adata)
        self._check_edit(edit)
        if not 0 < level < 1:
            msg = f"level={level}; it must lie between 0 and 1."
            raise ValueError(msg)
        replicates = self._replicates(edit, n_bootstrap, random_state, batch_size)
        rng = np.random.default_rng(random_state)
        rows = np.flatnonzero(self._query(adata, edit, query))
        if len(rows) > N_QUERY_CELLS:
            rows = np.sort(rng.choice(rows, N_QUERY_CELLS, replace=False))

        before = self._comparable(adata, rows, batch_size=batch_size)
        changes = self._comparable(adata, rows, edit, batch_size=batch_size) - before
        change = changes.mean(axis=0)
        resampled = [self._comparable(adata, rows, again, batch_size=batch_size).mean(axis=0) for again in replicates]
        sampling = np.std(resampled, axis=0, ddof=1)
        predicted, true = self._left_out_groups(edit, random_state, batch_size)
        extrapolation = extrapolation_std(change, predicted, true)
        std = np.sqrt(sampling**2 + np.nan_to_num(extrapolation) ** 2)
        margin = stats.t.ppf((1 + level) / 2, len(true) or n_bootstrap - 1) * std
        return pd.DataFrame(
            {
                "change": change,
                "lower": change - margin,
                "upper": change + margin,
                "std_sampling": sampling,
                "std_extrapolation": extrapolation,
                "share": (np.sign(changes) == np.sign(change)).mean(axis=0),
            },
            index=self.var_names_,
        )
