"""Learning the way from one batch to another from the controls they share, and testing it on controls held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scvi_neuronedit.data import Controls, Populations
from scvi_neuronedit.edit import (
    Edit,
    composition_weights,
    feature_emd,
    feature_emd_interval,
    random_folds,
    signal_share,
)
from scvi_neuronedit.model._auto import choose_edit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.edit import ActivationMap
    from scvi_neuronedit.model._neuronedit import NeuronEdit

N_BOOTSTRAP = 50


@dataclass(frozen=True)
class Link:
    """The way from one batch to another.

    Parameters
    ----------
    source, target
        The batches; ``target`` may be ``"pooled"``.
    controls
        What it was learnt from.
    edit
        What was learnt.
    share
        Share of every feature's correction that is applied, of shape ``[n_features]``.
    test
        The held-out control test; see :meth:`~scvi_neuronedit.NeuronEdit.get_control_test`.
    """

    source: str
    target: str
    controls: list[str]
    edit: Edit
    share: NDArray[np.float32]
    test: pd.DataFrame


@dataclass
class LinkLearner:
    """Learns links between batches of one AnnData.

    Parameters
    ----------
    model
        A :class:`~scvi_neuronedit.NeuronEdit`.
    adata, controls
        The cells and their controls.
    methods, layers
        A map for each layer, or ``"auto"`` alone.
    control_weights
        Weights of controls that do not weigh 1.
    labels
        Label of every cell, to match on; ``None`` if there are none.
    random_state
        Seed.
    batch_size
        Number of cells in a minibatch.
    params
        Parameters of the activation map.
    """

    model: NeuronEdit
    adata: AnnData
    controls: Controls
    methods: Sequence[str | ActivationMap]
    layers: Sequence[str]
    control_weights: Mapping[str, float] = field(default_factory=dict)
    labels: NDArray[np.str_] | None = None
    random_state: int = 0
    batch_size: int | None = None
    params: dict[str, Any] = field(default_factory=dict)

    def link(self, source: str, target: str, *, guard: bool) -> Link:
        """Learn a link from all shared controls.

        Parameters
        ----------
        source, target
            The batches.
        guard
            Whether to hold features back; see :meth:`~scvi_neuronedit.NeuronEdit.correct_batch`.
        """
        names = self.controls.shared(source, target)
        edit = self._learn(self.controls.cells(source, names), self.controls.cells(target, names))
        test = self.test(source, target)
        pairs = [
            tuple(self._values(self.controls.cells(batch, [name])) for batch in (source, target)) for name in names
        ]
        share = self._share(pairs, test) if guard else np.ones(len(self.model.var_names_))
        for cells in map(np.concatenate, zip(*pairs, strict=True)):
            share[np.ptp(cells, axis=0) == 0] = 0  # what one side does not measure cannot be corrected
        test["share_applied"] = np.tile(share, len(test) // len(share))
        return Link(source, target, names, edit, share.astype(np.float32), test)

    def test(self, source: str, target: str) -> pd.DataFrame:
        """Learn from some controls, test on others; see :meth:`~scvi_neuronedit.NeuronEdit.get_control_test`.

        Parameters
        ----------
        source, target
            The batches.
        """
        tables = []
        for held_out, learnt_on, tested_on in self._splits(source, target):
            edit = self._learn(*learnt_on)
            before, truth = (self._values(rows) for rows in tested_on)
            after = self._values(tested_on[0], edit)
            emd_before, emd_after = feature_emd(before, truth), feature_emd(after, truth)
            _, limit = feature_emd_interval(before, truth, n_bootstrap=N_BOOTSTRAP, random_state=self.random_state)
            ratio = np.divide(emd_after, emd_before, out=np.ones_like(emd_after), where=emd_before > 0)
            columns = {"batch": source, "towards": target, "held_out": held_out, "feature": self.model.var_names_}
            scores = {"emd_before": emd_before, "emd_after": emd_after, "emd_limit": limit, "reduction": 1 - ratio}
            tables.append(pd.DataFrame(columns | scores))
        return pd.concat(tables, ignore_index=True)

    def _splits(self, source: str, target: str) -> Iterator[tuple[str, tuple, tuple]]:
        """What is held out, and the source and target cells to learn on and to test on."""
        names, cells = self.controls.shared(source, target), self.controls.cells
        if len(names) > 1:
            for name in names:
                others = [other for other in names if other != name]
                yield (
                    name,
                    (cells(source, others), cells(target, others)),
                    (cells(source, [name]), cells(target, [name])),
                )
            return
        rows = cells(source, names), cells(target, names)
        halves = random_folds(len(rows[0]), len(rows[1]), 2, self.random_state)
        for i in (0, 1):
            split = [[side[half == number] for side, half in zip(rows, halves, strict=True)] for number in (1 - i, i)]
            yield f"{names[0]}, half {i + 1}", *map(tuple, split)

    def _share(self, pairs: list[tuple[NDArray, NDArray]], test: pd.DataFrame) -> NDArray[np.float64]:
        """Share of each feature's correction to apply; nothing where it came out worse on any control held out."""
        control = test["held_out"].str.replace(r", half \d$", "", regex=True)  # the halves of one count together
        means = test.groupby([test["feature"], control], sort=False)[["emd_after", "emd_limit"]].mean()
        is_worse = (means["emd_after"] > means["emd_limit"]).groupby("feature", sort=False).any().to_numpy()
        share = np.where(is_worse, 0, signal_share(pairs, random_state=self.random_state))
        return np.where(self.model._is_count, share > 0, share)

    def _values(self, rows: NDArray[np.intp], edit: Edit | None = None) -> NDArray[np.float32]:
        return self.model._comparable(self.adata, rows, edit, batch_size=self.batch_size)

    def _learn(self, source: NDArray[np.intp], target: NDArray[np.intp]) -> Edit:
        """An edit between control cells, matched in controls and labels."""
        kinds = pd.Series(self.controls.control)
        if self.labels is not None:
            kinds = kinds + "\n" + pd.Series(self.labels)
        weights = composition_weights(kinds[source], kinds[target])
        source, target = (rows[weight > 0] for rows, weight in zip((source, target), weights, strict=True))
        if not len(source):
            msg = "the controls of two batches share no label; pass match_labels=False."
            raise ValueError(msg)
        of_control = pd.Series(self.control_weights, dtype=float)
        weights = [
            weight[weight > 0] * of_control.reindex(self.controls.control[rows]).fillna(1).to_numpy()
            for rows, weight in zip((source, target), weights, strict=True)
        ]
        groups = (None, None) if self.labels is None else (self.labels[source], self.labels[target])
        info = {"n_source": len(source), "n_target": len(target)}
        populations = Populations(source, target, *weights, *groups, info)
        run = {"batch_size": self.batch_size}
        if self.methods == ["auto"]:
            return choose_edit(self.model, self.adata, populations, self.layers, random_state=self.random_state, **run)
        return self.model._learn(self.adata, populations, self.methods, self.layers, **run, **self.params)
