"""What an edit does to each feature, and how certain that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from scvi_neuronedit.data import fingerprint_cells, select_populations
from scvi_neuronedit.model._auto import sample_populations

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Populations, Selection
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
        of source and target cells. *Extrapolation*: each group (label, else cluster) is left out of learning in turn,
        and the mean squared error of its predicted change is taken, feature by feature. The interval is
        :math:`\pm t` standard deviations, with as many degrees of freedom as groups were left out. It tends to be too
        narrow where the query resembles no group (measured in the user guide).

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
        if n_bootstrap < 2:
            msg = f"n_bootstrap={n_bootstrap}; it must be at least 2."
            raise ValueError(msg)
        populations = self._populations_of(edit)
        rng = np.random.default_rng(random_state)
        rows = np.flatnonzero(self._query(adata, edit, query))
        if len(rows) > N_QUERY_CELLS:
            rows = np.sort(rng.choice(rows, N_QUERY_CELLS, replace=False))

        before = self._comparable(adata, rows, batch_size=batch_size)
        changes = self._comparable(adata, rows, edit, batch_size=batch_size) - before
        change = changes.mean(axis=0)
        resampled = [
            self._comparable(adata, rows, self._relearn(edit, _bootstrap(populations, rng), batch_size)).mean(axis=0)
            for _ in range(n_bootstrap)
        ]
        sampling = np.std(resampled, axis=0, ddof=1)
        errors = self._errors_of_left_out_groups(edit, populations, random_state, batch_size)
        extrapolation = np.sqrt((errors**2).mean(axis=0)) if len(errors) else np.full(len(change), np.nan)
        std = np.sqrt(sampling**2 + np.nan_to_num(extrapolation) ** 2)
        margin = stats.t.ppf((1 + level) / 2, len(errors) or n_bootstrap - 1) * std
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

    def _populations_of(self, edit: Edit) -> Populations:
        """The cells an edit was learnt on."""
        if "selection_source" not in edit.info or "chain" in edit.info:
            msg = "edit must come from learn_edit, not chained: only then it can be learnt again on other samples."
            raise ValueError(msg)
        if self.adata is None or edit.info["cells"] != fingerprint_cells(self.adata):
            msg = "edit was learnt on cells that are not the model's own; its effect cannot be estimated."
            raise ValueError(msg)
        return select_populations(
            self.adata,
            edit.info["selection_source"],
            edit.info["selection_target"],
            condition_key=self._setup_arg("condition_key"),
            labels_key=edit.info.get("match_key"),
            warn=False,
        )

    def _relearn(self, edit: Edit, populations: Populations, batch_size: int | None) -> Edit:
        first = edit.steps[0]
        again = self._learn(self.adata, populations, first.map, edit.layers, batch_size=batch_size)
        return again.scale(first.strength)

    def _errors_of_left_out_groups(
        self, edit: Edit, populations: Populations, random_state: int, batch_size: int | None
    ) -> NDArray[np.float64]:
        """Predicted less true change of every left-out group, of shape ``[n_groups, n_features]``."""
        sample = sample_populations(self, self.adata, populations, random_state, batch_size)
        errors = []
        for group in np.unique(sample.source_groups) if sample is not None else []:
            in_source, in_target = sample.source_groups == group, sample.target_groups == group
            learnt = self._relearn(edit, sample.subset(~in_source, ~in_target), batch_size)
            predicted = self._comparable(self.adata, sample.source[in_source], learnt, batch_size=batch_size)
            truth = self._comparable(self.adata, sample.target[in_target], batch_size=batch_size)
            errors.append(predicted.mean(axis=0) - truth.mean(axis=0))
        return np.array(errors)


def _bootstrap(populations: Populations, rng: np.random.Generator) -> Populations:
    """Source and target cells drawn with replacement, within their groups."""

    def draw(n_cells: int, groups: NDArray | None) -> NDArray[np.intp]:
        groups = np.zeros(n_cells) if groups is None else groups
        parts = (np.flatnonzero(groups == group) for group in np.unique(groups))
        return np.concatenate([rng.choice(part, len(part)) for part in parts])

    return populations.subset(
        draw(len(populations.source), populations.source_groups),
        draw(len(populations.target), populations.target_groups),
    )
