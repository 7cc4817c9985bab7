"""Removing what a batch does to control samples from all its cells."""

from __future__ import annotations

import logging
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scvi.utils import track

from scvi_neuronedit.data import (
    assemble,
    check_layer_is_free,
    check_obs_column,
    check_reference,
    describe_selection,
    find_controls,
    listed,
    match_features,
    record_layer,
)
from scvi_neuronedit.model._auto import refuse_parameters
from scvi_neuronedit.model._links import LinkLearner
from scvi_neuronedit.model._residual import draws_by_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Controls, Selection
    from scvi_neuronedit.edit import ActivationMap
    from scvi_neuronedit.model._links import Link

    Method = str | ActivationMap | Sequence[str | ActivationMap]

logger = logging.getLogger("scvi.neuronedit")  # of scvi-tools, so that scvi.settings.verbosity governs it
N_LISTED = 60, 10  # all features of a panel, or the farthest of many


class BatchMixin:
    """Methods that correct batches with control samples."""

    def correct_batch(
        self,
        reference: str,
        controls: Selection,
        adata: AnnData | None = None,
        layer_added: str | None = "corrected",
        *,
        method: Method | None = None,
        layers: str | Sequence[str] | None = None,
        control_weights: Mapping[str, float] | None = None,
        match_labels: bool = True,
        guard: bool = True,
        overwrite: bool = False,
        random_state: int = 0,
        batch_size: int | None = None,
        silent: bool = True,
        **params: Any,
    ) -> NDArray[np.float32] | None:
        """Correct every batch towards a reference by what moves its control samples.

        For each batch an edit is learnt from its control cells to the same controls in the reference, and applied to
        all its cells; only what moves the control is removed (Amodio et al., 2018). Batches that share no control with
        the reference are corrected step by step, along the shortest chain of batches that do share one. Before anything
        is written, every step is tried on control cells it was not learnt on; see :meth:`get_control_test`.

        Parameters
        ----------
        reference
            The batch to correct towards, which stays as it is; ``"largest"``, the one with most cells; or ``"pooled"``,
            the controls that all batches have taken together, towards which every batch is corrected.
        controls
            The control cells, such as ``{"sample": ["control_1", "control_2"]}`` or ``{"cell_type": "B"}``: every value
            (combination of values, if several columns are named) is a control of its own, compared with itself only.
        adata
            AnnData with the model's features, the batch column and the controls. The model's own if ``None``.
        layer_added
            Layer of ``adata`` to write; with it a record in ``adata.uns["neuronedit"]``, which says for every batch which
            controls were used and what the test showed, and in ``adata.obs[f"{layer_added}_support"]`` how well the
            controls speak for each corrected cell (see :meth:`get_edit_support`). ``None`` returns the corrected values
            instead.
        method, layers
            See :meth:`learn_edit`. If ``None``: the group map on the code, then, with the normal likelihood, percentiles
            of the expression, which give every feature the control's distribution (but for its zeros, where they are many).
        control_weights
            Weight of every control, by name; those left out weigh 1. For batches with several controls.
        match_labels
            Whether to give the controls of both sides the same composition of the registered labels.
        guard
            Whether to apply to each feature only the share of its correction that is not noise of sampling (see
            :func:`~scvi_neuronedit.edit.signal_share`), and nothing where control cells held out came out worse than the
            95 % bootstrap interval of their distance before. Counts are corrected whole or not at all.
        overwrite
            Whether an existing layer may be replaced.
        random_state
            Seed of everything random.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        silent
            Whether to hide progress bars. What the control test showed is logged at ``scvi.settings.verbosity`` info.
        **params
            Parameters of the activation map, such as ``n_neighbors``.

        Returns
        -------
        ``None``, or without ``layer_added`` the corrected values of all cells, of shape ``[n_obs, n_vars]``.

        Raises
        ------
        KeyError, TypeError, ValueError
            A name is unknown; a batch cannot be reached; a control is in one batch only or has fewer than 20 cells; a
            feature is constant. Nothing has been written then.
        """
        adata = self._checked_adata(adata)
        if layer_added is not None:
            check_layer_is_free(adata, layer_added, overwrite=overwrite)
        found = self._find_controls(adata, controls, control_weights)
        reference = check_reference(reference, found.batch, self._setup_arg("batch_key"))
        paths = found.paths(reference)
        learn = method, layers, control_weights, match_labels, random_state, batch_size, params
        learner = self._link_learner(adata, found, *learn)
        steps = track(_steps(paths), description="Learning", disable=silent)
        links = {step: learner.link(*step, guard=guard) for step in steps}
        _report(links.values())
        ways = {batch: [links[step] for step in zip(path[:-1], path[1:], strict=True)] for batch, path in paths.items()}

        reader = self._reader(adata)
        rows = np.flatnonzero(np.isin(found.batch, list(ways)))
        corrected = self._corrected_minibatches(ways, found, adata, rows, random_state, batch_size, silent)
        keep_sparse = layer_added is not None and reader.is_sparse and self._has_counts
        matrix = assemble(reader, rows, corrected, whole_layer=True, keep_sparse=keep_sparse)
        if layer_added is None:
            return matrix
        support = np.full(adata.n_obs, np.nan)
        for batch, way in ways.items():
            cells = np.flatnonzero(found.batch == batch)
            support[cells] = self._support(way[0].edit, adata, cells, batch_size)["support"]
        record = {
            "model": self.fingerprint,
            **self._describe_data(),
            "edit": f"batches to {reference}, by controls {describe_selection(controls)}",
            "query": "all batches" if reference not in found.batch else f"all batches but {reference}",
            "n_query": len(rows),
            "reference": reference,
            "methods": ", ".join(str(getattr(m, "name", m)) for m in learner.methods),
            "layers": ", ".join(learner.layers),
            "guard": guard,
            "random_state": random_state,
            # a table, as names of batches may hold "/", which keys in files cannot
            "batches": pd.DataFrame({batch: _describe_way(way, self.var_names_) for batch, way in ways.items()}).T,
            "control_test": pd.concat([link.test for link in links.values()], ignore_index=True),
        }
        adata.layers[layer_added] = matrix
        adata.obs[f"{layer_added}_support"] = support
        record_layer(adata, layer_added, record)
        return None

    def get_control_test(
        self,
        reference: str,
        controls: Selection,
        adata: AnnData | None = None,
        *,
        method: Method | None = None,
        layers: str | Sequence[str] | None = None,
        control_weights: Mapping[str, float] | None = None,
        match_labels: bool = True,
        random_state: int = 0,
        batch_size: int | None = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Try a correction of batches on control cells it was not learnt on; nothing is written.

        For every batch and the next one on its way to the reference. Where they share several controls, each is left
        out of learning in turn and corrected; where they share one, each half of its cells is.

        Parameters
        ----------
        reference, controls, adata, method, layers, control_weights, match_labels, random_state, batch_size, **params
            See :meth:`correct_batch`.

        Returns
        -------
        A row for each step, each control left out and each feature: ``batch``, ``towards``, ``held_out``, ``feature``;
        ``emd_before`` and ``emd_after``, the earth mover's distance of the cells held out from the same control in the
        batch they are corrected towards; ``emd_limit``, the upper end of the 95 % bootstrap interval of ``emd_before``;
        and ``reduction``, the share by which the distance falls. In units of the registered layer; for counts, of log1p
        of counts per 10,000.
        """
        adata = self._checked_adata(adata)
        found = self._find_controls(adata, controls, control_weights)
        reference = check_reference(reference, found.batch, self._setup_arg("batch_key"))
        learn = method, layers, control_weights, match_labels, random_state, batch_size, params
        learner = self._link_learner(adata, found, *learn)
        return pd.concat([learner.test(*step) for step in _steps(found.paths(reference))], ignore_index=True)

    def check_controls(self, reference: str, controls: Selection, adata: AnnData | None = None) -> dict[str, list[str]]:
        """Check that every batch can be corrected, without training or learning anything.

        Parameters
        ----------
        reference, controls, adata
            See :meth:`correct_batch`.

        Returns
        -------
        For every batch that will be corrected, the batches on its way to the reference.
        """
        adata = self.adata if adata is None else adata
        if adata is None:
            msg = "the model was loaded without data: pass adata."
            raise ValueError(msg)
        found = self._find_controls(self._table(adata), controls, None)
        return found.paths(check_reference(reference, found.batch, self._setup_arg("batch_key")))

    def _find_controls(
        self, adata: AnnData, controls: Selection, control_weights: Mapping[str, float] | None
    ) -> Controls:
        """Control cells of every batch, after checking that they, their weights and all features can be used."""
        batch_key = self._setup_arg("batch_key")
        if batch_key is None:
            msg = "no batch_key was registered; pass it to setup_anndata."
            raise ValueError(msg)
        found = find_controls(adata, controls, batch_key=batch_key, condition_key=self._setup_arg("condition_key"))
        for name, weight in (control_weights or {}).items():
            if name not in found.usable:
                msg = f"control_weights names {name!r}, which is not a control ({listed(found.usable.columns)})."
                raise ValueError(msg)
            if not 0 < weight < np.inf:
                msg = f"control_weights[{name!r}]={weight}; weights must be positive and finite."
                raise ValueError(msg)
        lowest, highest = np.full(len(self.var_names_), np.inf), np.full(len(self.var_names_), -np.inf)
        for _, _, x, _ in self._minibatches(adata, np.arange(adata.n_obs), None, silent=True):
            lowest, highest = np.minimum(lowest, x.numpy().min(axis=0)), np.maximum(highest, x.numpy().max(axis=0))
        if (constant := lowest == highest).any():
            msg = f"constant in all cells: {listed(self.var_names_[constant])}; train a model without these features."
            raise ValueError(msg)
        return found

    def _link_learner(
        self,
        adata: AnnData,
        found: Controls,
        method: Method | None,
        layers: str | Sequence[str] | None,
        control_weights: Mapping[str, float] | None,
        match_labels: bool,
        random_state: int,
        batch_size: int | None,
        params: dict[str, Any],
    ) -> LinkLearner:
        if method is None and layers is None and self._edits_expression("output"):
            method, layers = ("group", "percentile"), ("code", "output")
        methods, layers = self._checked_layers("group" if method is None else method, layers)
        if methods == ["auto"]:
            refuse_parameters(params)
        labels, labels_key = None, self._setup_arg("labels_key")
        if match_labels and labels_key is not None:
            check_obs_column(adata, "labels_key", labels_key)
            labels = adata.obs[labels_key].astype(str).to_numpy()
        weights = control_weights or {}
        return LinkLearner(self, adata, found, methods, layers, weights, labels, random_state, batch_size, params)

    def _corrected_minibatches(
        self,
        ways: dict[str, list[Link]],
        found: Controls,
        adata: AnnData,
        rows: NDArray[np.intp],
        random_state: int,
        batch_size: int | None,
        silent: bool,
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Where among ``rows``, and the corrected rows of the layer, minibatch by minibatch."""
        columns = match_features(adata, self.var_names_)
        draws = defaultdict(partial(draws_by_step, random_state))  # of each link
        draws_of_shares = draws_by_step(random_state, 1)
        for where, values, x, size_factor in self._minibatches(adata, rows, batch_size, silent=silent):
            batches = found.batch[rows[where]]
            for batch in np.unique(batches):
                cells = batches == batch
                corrected = x[cells].numpy()
                factor = None if size_factor is None else size_factor[cells]
                for i, link in enumerate(ways[batch]):
                    edited = self._edited(link.edit, torch.from_numpy(corrected), factor, draws[i])
                    corrected = self._partly(corrected, edited, link.share, draws_of_shares[i])
                x[cells] = torch.from_numpy(corrected)
            values[:, columns] = x.numpy()
            yield where, values


def _steps(paths: dict[str, list[str]]) -> list[tuple[str, str]]:
    """All pairs of neighbours on the paths, each once."""
    return list(dict.fromkeys(step for path in paths.values() for step in zip(path[:-1], path[1:], strict=True)))


def _describe_way(way: list[Link], var_names: NDArray) -> dict[str, Any]:
    """What was done to a batch, as a record can hold it; the test is that of the first step on its way."""
    tests = way[0].test
    return {
        "path": " -> ".join([way[0].source, *(link.target for link in way)]),
        "controls": "; ".join(", ".join(link.controls) for link in way),
        "n_source": str(way[0].edit.info["n_source"]),
        "n_target": str(way[0].edit.info["n_target"]),
        "held_out": ", ".join(tests["held_out"].unique()),
        "emd_before": f"{tests['emd_before'].mean():.4g}",
        "emd_after": f"{tests['emd_after'].mean():.4g}",
        "kept_back": ", ".join(str(name) for name in var_names[np.any([link.share == 0 for link in way], axis=0)]),
    }


def _report(links: Iterable[Link]) -> None:
    """Log what the control test showed."""
    for link in links:
        before, after = link.test["emd_before"].mean(), link.test["emd_after"].mean()
        held_out = ", ".join(link.test["held_out"].unique())
        logger.info(
            f"{link.source} -> {link.target}: learnt from {', '.join(link.controls)}; on controls held out ({held_out}) "
            f"the mean EMD falls from {before:.3g} to {after:.3g} ({after / before - 1:+.0%})."
        )
        means = link.test.groupby("feature", sort=False)[["emd_before", "emd_after", "reduction"]].mean()
        means["share applied"] = link.share
        if len(means) > N_LISTED[0]:
            means = means.nlargest(N_LISTED[1], "emd_before")
        logger.info("\n" + means.round(3).to_string())
