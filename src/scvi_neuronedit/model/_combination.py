"""Conditions that act together: predicted from cells that received one of them, and compared with their sum."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from scvi_neuronedit.data import (
    MatrixReader,
    assemble,
    check_layer_is_free,
    describe_selection,
    record_layer,
    unknown_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Selection
    from scvi_neuronedit.edit import ActivationMap, Edit

_ORDERS = ("average", "given")


class CombinationMixin:
    """Methods that predict combinations of conditions by chaining edits."""

    def predict_combination(
        self,
        conditions: Sequence[Selection],
        control: Selection,
        adata: AnnData | None = None,
        layer_added: str | None = "predicted",
        *,
        order: Literal["average", "given"] = "average",
        method: str | ActivationMap = "auto",
        layers: str | Sequence[str] | None = None,
        match_labels: bool = True,
        keep_residual: bool = True,
        overwrite: bool = False,
        random_state: int = 0,
        batch_size: int | None = None,
        **params: Any,
    ) -> NDArray[np.float32] | None:
        """Predict cells under several conditions at once, each of which was measured alone.

        The edit from control to condition A is learnt and applied to the cells of condition B, and the reverse. With more
        conditions, the cells of each receive the edits of all others, chained.

        Parameters
        ----------
        conditions
            Two or more conditions, such as ``["A", "B"]``.
        control
            The cells without any of them.
        adata
            AnnData with cells of the conditions; edits are learnt on the model's own data. The model's own if ``None``.
        layer_added
            Layer of ``adata`` to write, with a record in ``adata.uns["neuronedit"]`` and each predicted cell's support, as
            :meth:`apply_edit` writes them. ``None`` returns the prediction instead.
        order
            ``"average"``: start from the cells of every condition in turn; the prediction is all of them. ``"given"``: start
            from the cells of the first condition, and apply the edits of the others in the order given.
        method, layers, match_labels, params
            See :meth:`learn_edit`.
        keep_residual, overwrite, random_state, batch_size
            See :meth:`apply_edit`.

        Returns
        -------
        Without ``layer_added`` the predicted cells, those of the conditions started from, of shape ``[n_cells, n_vars]``, in
        the order of ``adata``. With it ``None``; ``adata.layers[layer_added]`` then holds all cells, those not
        started from as they were.

        Raises
        ------
        ValueError, KeyError
            Fewer than two conditions, unknown or overlapping ones, or too few cells.
        """
        adata = self._checked_adata(adata)
        if order not in _ORDERS:
            raise ValueError(unknown_name("order", order, "the orders", _ORDERS))
        if layer_added is not None:
            check_layer_is_free(adata, layer_added, overwrite=overwrite)
        rows = self._combination_rows(adata, conditions, control)
        learn = {"layers": layers, "match_labels": match_labels, "random_state": random_state, **params}
        edits = self._single_edits(conditions, control, method, batch_size=batch_size, **learn)
        starts = range(len(conditions)) if order == "average" else range(1)
        values, support = [], np.full(adata.n_obs, np.nan)
        for start in starts:
            query = np.zeros(adata.n_obs, dtype=bool)
            query[rows[start]] = True
            edit = _chain_of_others(edits, start)
            edited = self.apply_edit(
                edit,
                adata,
                query,
                keep_residual=keep_residual,
                random_state=random_state,
                batch_size=batch_size,
            )
            values.append(edited)
            if layer_added is not None:
                support[query] = self._support(edit, adata, rows[start], batch_size)["support"]
        rows, values = np.concatenate([rows[start] for start in starts]), np.concatenate(values)
        values, rows = values[np.argsort(rows)], np.sort(rows)
        if layer_added is None:
            return values
        reader = MatrixReader(adata, self._setup_arg("layer"))
        keep_sparse = reader.is_sparse and keep_residual and self._is_count_model
        matrix = assemble(reader, rows, [(slice(None), values)], whole_layer=True, keep_sparse=keep_sparse)
        record = {
            "model": self.fingerprint,
            "layer": self._setup_arg("layer") or "X",
            "likelihood": self.module.likelihood,
            "combination": " + ".join(describe_selection(condition) for condition in conditions),
            "control": describe_selection(control),
            "order": order,
            "edits": "\n".join(repr(edit) for edit in edits),
            "n_query": len(rows),
            "keep_residual": keep_residual,
            "random_state": random_state,
            "support": {"mean": float(np.nanmean(support))},
        }
        adata.layers[layer_added] = matrix
        adata.obs[f"{layer_added}_support"] = support
        record_layer(adata, layer_added, record)
        return None

    def get_synergy(
        self,
        conditions: Sequence[Selection],
        control: Selection,
        combination: Selection | None = None,
        *,
        separator: str = "+",
        use_measured: bool = True,
        method: str | ActivationMap = "auto",
        level: float = 0.9,
        n_bootstrap: int = 10,
        random_state: int = 0,
        batch_size: int | None = None,
        **params: Any,
    ) -> pd.DataFrame:
        r"""How far each feature's mean under a combination is from the sum of the single changes.

        With means :math:`\mu` and :math:`k` conditions the synergy is :math:`\mu_{1 \dots k} - (\sum_i \mu_i - (k - 1) \mu_0)`. Where
        the combination was measured, its mean is that of its cells and the interval comes from the standard errors of all
        means. Otherwise it is predicted (:meth:`predict_combination`, both orders averaged) and the interval comes from
        learning all edits again on bootstrap samples of all cells; it then holds the error of sampling, not that of
        edits that carry over badly.

        Parameters
        ----------
        conditions, control, method, params
            As for :meth:`predict_combination`, on the model's own data.
        combination
            The cells that received all conditions. If ``None``: those whose condition joins the names of ``conditions`` with
            ``separator``, in any order, where there are such.
        separator
            Text between the names of a combination.
        use_measured
            Whether to use measured cells of the combination where there are such.
        level
            Level of the intervals.
        n_bootstrap
            Number of bootstrap samples, at least 2.
        random_state
            Seed of the samples.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.

        Returns
        -------
        A row for each of the model's features: ``synergy``, ``lower``, ``upper``, ``std``, ``combination`` and ``additive`` (both
        means), and ``measured``, whether the combination was. In units of the registered layer; for counts, of log1p
        of counts per 10,000.
        """
        adata = self._checked_adata(None)
        if not 0 < level < 1:
            msg = f"level={level}; it must lie between 0 and 1."
            raise ValueError(msg)
        if n_bootstrap < 2:
            msg = f"n_bootstrap={n_bootstrap}; it must be at least 2."
            raise ValueError(msg)
        rows = self._combination_rows(adata, conditions, control)
        rows.append(np.flatnonzero(self._select(adata, control, "control")))
        if combination is None and use_measured:
            combination = self._name_of_combination(adata, conditions, separator)
        measured = combination is not None and use_measured
        # coefficients of the additive expectation: each condition once, the control once less than there are conditions
        weights = np.array([1.0] * len(conditions) + [1.0 - len(conditions)])

        def additive(samples: list[NDArray[np.intp]]) -> NDArray[np.float64]:
            return weights @ [
                self._comparable(adata, r, batch_size=batch_size).mean(axis=0, dtype=np.float64) for r in samples
            ]

        if measured:
            cells = np.flatnonzero(self._select(adata, combination, "combination"))
            samples = [self._comparable(adata, r, batch_size=batch_size).astype(np.float64) for r in (cells, *rows)]
            mean, expected = samples[0].mean(axis=0), additive(rows)
            squares = [x.var(axis=0, ddof=1) / len(x) for x in samples]
            std = np.sqrt(np.array([1.0, *weights**2]) @ squares)
            margin = stats.norm.ppf((1 + level) / 2) * std
        else:
            edits = self._single_edits(
                conditions, control, method, random_state=random_state, batch_size=batch_size, **params
            )
            mean, expected = self._predicted_mean(edits, rows, batch_size), additive(rows)
            rng = np.random.default_rng(random_state)
            resampled = []
            for _ in range(n_bootstrap):
                sample = [np.sort(rng.choice(r, len(r))) for r in rows]
                again = [
                    self._relearn_on(edit, control=sample[-1], condition=sample[i], batch_size=batch_size)
                    for i, edit in enumerate(edits)
                ]
                resampled.append(self._predicted_mean(again, sample, batch_size) - additive(sample))
            std = np.std(resampled, axis=0, ddof=1)
            margin = stats.t.ppf((1 + level) / 2, n_bootstrap - 1) * std
        synergy = mean - expected
        columns = {"synergy": synergy, "lower": synergy - margin, "upper": synergy + margin, "std": std}
        columns |= {"combination": mean, "additive": expected, "measured": measured}
        return pd.DataFrame(columns, index=self.var_names_)

    def _combination_rows(
        self, adata: AnnData, conditions: Sequence[Selection], control: Selection
    ) -> list[NDArray[np.intp]]:
        """Positions of the cells of each condition, which must not overlap each other or the control."""
        if isinstance(conditions, str) or len(conditions) < 2:
            msg = f"conditions={conditions!r}; a combination takes a list of at least two, such as ['A', 'B']."
            raise ValueError(msg)
        masks = [self._select(adata, condition, "condition") for condition in conditions]
        names = [describe_selection(selection) for selection in (*conditions, control)]
        taken = np.zeros(adata.n_obs, dtype=bool)
        if adata is self.adata:
            masks.append(self._select(adata, control, "control"))
        for name, mask in zip(names, masks, strict=False):
            if n_both := int((taken & mask).sum()):
                msg = f"{n_both} cells of {name!r} are also cells of another condition; conditions must not overlap."
                raise ValueError(msg)
            taken |= mask
        return [np.flatnonzero(mask) for mask in masks[: len(conditions)]]

    def _single_edits(
        self, conditions: Sequence[Selection], control: Selection, method: str | ActivationMap, **arguments: Any
    ) -> list[Edit]:
        """Edits from the control to each condition, learnt on the model's own data."""
        return [self.learn_edit(control, condition, method, **arguments) for condition in conditions]

    def _predicted_mean(
        self, edits: list[Edit], rows: list[NDArray[np.intp]], batch_size: int | None
    ) -> NDArray[np.float64]:
        """Mean of the predicted combination, each condition started from weighing the same."""
        means = [
            self._comparable(self.adata, rows[start], _chain_of_others(edits, start), batch_size=batch_size)
            .mean(axis=0, dtype=np.float64)
            for start in range(len(edits))
        ]  # fmt: skip
        return np.mean(means, axis=0)

    def _relearn_on(
        self, edit: Edit, *, control: NDArray[np.intp], condition: NDArray[np.intp], batch_size: int | None
    ) -> Edit:
        """The same kind of edit, learnt on other samples of its cells."""
        if not edit.steps:
            return edit
        populations = self._populations_of(edit)

        def positions(cells: NDArray[np.intp], sample: NDArray[np.intp]) -> NDArray[np.intp]:
            return np.searchsorted(cells, sample[np.isin(sample, cells)])

        sample = populations.subset(positions(populations.source, control), positions(populations.target, condition))
        return self._relearn(edit, sample, batch_size)

    def _name_of_combination(self, adata: AnnData, conditions: Sequence[Selection], separator: str) -> Selection | None:
        """The condition named like a combination, if there is one."""
        condition_key = self._setup_arg("condition_key")
        if condition_key is None or not all(isinstance(condition, str) for condition in conditions):
            return None
        known = set(adata.obs[condition_key].astype(str))
        return next((name for name in map(separator.join, permutations(conditions)) if name in known), None)


def _chain_of_others(edits: Sequence[Edit], start: int) -> Edit:
    """All edits but one, chained in order."""
    others = [edit for i, edit in enumerate(edits) if i != start]
    chain = others[0]
    for edit in others[1:]:
        chain = chain >> edit
    return chain
