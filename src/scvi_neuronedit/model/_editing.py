"""Learning and applying edits: the part of the model class that neuron editing is."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import settings

from scvi_neuronedit.data import (
    assemble,
    check_layer_is_free,
    describe_selection,
    fingerprint_cells,
    record_layer,
    select_populations,
    unknown_name,
)
from scvi_neuronedit.edit import UNSUPPORTED, ActivationMap, Edit, describe, make_map
from scvi_neuronedit.model._auto import choose_edit, refuse_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Populations, Selection


class EditingMixin:
    """Methods that learn edits between populations and apply them to others."""

    def learn_edit(
        self,
        source: Selection,
        target: Selection,
        method: str | ActivationMap | Sequence[str | ActivationMap] = "auto",
        *,
        layers: str | Sequence[str] | None = None,
        match_labels: bool = True,
        adata: AnnData | None = None,
        random_state: int = 0,
        batch_size: int | None = None,
        **params: Any,
    ) -> Edit:
        """Learn the change of activations from one population to another.

        Parameters
        ----------
        source, target
            The cells before and after the change: a condition name, a mapping of obs columns to a value or list of
            values, a boolean mask, or obs names.
        method
            ``"auto"`` tries maps, layers and strengths on groups of cells left out of learning, and takes what predicts
            these best, which may be no edit at all; the table it decided from is ``edit.selection_``. Or a map:
            ``"group"``, ``"group_gaussian"``, ``"pairs"``, ``"neighbor"`` (Amodio et al., MLSP 2020), ``"percentile"`` (Amodio et al., 2018),
            ``"mean"`` (latent arithmetic), ``"gaussian"`` (affine optimal transport), or an activation map. Or a list of
            maps, one for each of ``layers``.
        layers
            Layer, or layers, whose activations are edited; each later one is learnt on the source as edited so far. With
            the normal likelihood ``"output"`` is the expression itself, each cell's residual included (of a MuData, that of
            the modalities with this likelihood). If ``None``:
            ``"code"``, or what ``"auto"`` chooses.
        match_labels
            Whether to give both populations the same composition of the registered labels. Cells of labels that
            lack one side are left out of learning.
        adata
            AnnData the selections refer to. The model's own if ``None``.
        random_state
            Seed of the cells that ``"auto"`` tries its candidates on.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        **params
            Parameters of the activation map, such as ``n_neighbors``.

        Returns
        -------
        The edit.
        """
        adata = self._checked_adata(adata)
        methods, layers = self._checked_layers(method, layers)
        populations = select_populations(
            adata,
            source,
            target,
            condition_key=self._setup_arg("condition_key"),
            labels_key=self._setup_arg("labels_key") if match_labels else None,
        )
        if methods == ["auto"]:
            refuse_parameters(params)
            edit = choose_edit(self, adata, populations, layers, random_state=random_state, batch_size=batch_size)
        else:
            edit = self._learn(adata, populations, methods, layers, batch_size=batch_size, **params)
        return replace(edit, model=self.fingerprint)

    def _learn(
        self,
        adata: AnnData,
        populations: Populations,
        methods: Sequence[str | ActivationMap],
        layers: Sequence[str],
        *,
        batch_size: int | None = None,
        **params: Any,
    ) -> Edit:
        """Learn one step for each layer of each network, each on the source as edited so far."""
        weights = {"source_weights": populations.source_weights, "target_weights": populations.target_weights}
        groups = None
        if populations.source_groups is not None:
            groups = populations.source_groups, populations.target_groups
        edit = Edit((), info=populations.info)
        for layer, method in self._in_networks(layers, methods):
            source, target = (
                self._states(adata, rows, layer, before, batch_size=batch_size)
                for rows, before in ((populations.source, edit), (populations.target, None))
            )
            new, unpaired = make_map(method, **params), None
            if new.uses_unpaired and populations.unpaired is not None:
                rows, labels = populations.unpaired
                unpaired = self._states(adata, rows, layer, edit, batch_size=batch_size), labels
            step = Edit.learn(source, target, method=new, layer=layer, groups=groups, unpaired=unpaired, **weights)
            edit = replace(edit, steps=edit.steps + step.steps)
        return edit

    def _in_networks(
        self, layers: Sequence[str], methods: Sequence[str | ActivationMap]
    ) -> Iterator[tuple[str, str | ActivationMap]]:
        """Layers by their names in each network, with their maps; the expression belongs to all networks."""
        for layer, method in zip(layers, methods, strict=True):
            for name in (layer,) if self._edits_expression(layer) else self.module.names_in_networks(layer):
                yield name, method

    def apply_edit(
        self,
        edit: Edit,
        adata: AnnData | None = None,
        query: Selection | None = None,
        keep_residual: bool = True,
        strength: float = 1.0,
        layer_added: str | None = None,
        *,
        std_layer_added: str | None = None,
        n_bootstrap: int = 10,
        overwrite: bool = False,
        random_state: int = 0,
        batch_size: int | None = None,
        silent: bool = True,
    ) -> NDArray[np.float32] | None:
        """Apply an edit to cells and decode them.

        Parameters
        ----------
        edit
            What to apply; learnt by this model.
        adata
            AnnData with the model's features, in any order and maybe with others, which stay as they are. Need not be
            registered. The model's own if ``None``.
        query
            The cells to edit, in any form a selection has. If ``None``: the source cells the edit was not learnt on,
            or, if there are none, all source cells.
        keep_residual
            Whether each cell keeps what the autoencoder does not explain of it. Counts, and values of features of which
            more than 5 % are zero (in a layer without negative values), keep their quantile among those decoded alike, so that zeros
            become positive in some cells only (see :func:`~scvi_neuronedit.edit.carry_counts` and
            :class:`~scvi_neuronedit.edit.LevelDistributions`). Others become ``x + D(edited) - D(unedited)``. Without,
            the result is the decoded mean.
        strength
            Share of the edit's displacement to apply: 0 is none, 1 all.
        layer_added
            Write the result into this layer of ``adata``, with a record in ``adata.uns["neuronedit"]``, and each edited
            cell's support (see :meth:`get_edit_support`) into ``adata.obs[f"{layer_added}_support"]``.
        std_layer_added
            Write the standard deviation of each predicted value into this layer, too: over edits learnt again on
            bootstrap samples of source and target cells, and with several networks each time with another one. 0 for
            cells outside the query. It does not hold the error of extrapolating to a new kind of cell, which
            :meth:`get_edit_effect` estimates feature by feature. Needs an edit that this model learnt on its own data.
        n_bootstrap
            Number of bootstrap samples for ``std_layer_added``, at least 2.
        overwrite
            Whether an existing layer may be replaced.
        random_state
            Seed of the bootstrap samples, and of :class:`~scvi_neuronedit.edit.CellDraws`.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        Without ``layer_added`` the edited query cells, of shape ``[n_query, n_vars]``, in the order of ``adata``. With
        it ``None``; ``adata.layers[layer_added]`` then holds all cells, those outside the query as they were. Values
        are float32 on the scale of the registered layer, and not negative where that layer is not.
        """
        adata = self._checked_adata(adata)
        self._check_edit(edit)
        self._check_new_layers(adata, layer_added, std_layer_added, overwrite=overwrite)
        mask = self._query(adata, edit, query)
        rows = np.flatnonzero(mask)
        self._warn_of_target_cells(edit, adata, mask)
        reader = self._reader(adata)
        edited = self._edited_minibatches(
            edit.scale(strength), adata, rows, keep_residual, random_state, batch_size, silent
        )
        keep_sparse = layer_added is not None and reader.is_sparse and keep_residual and self._has_counts
        matrix = assemble(reader, rows, edited, whole_layer=layer_added is not None, keep_sparse=keep_sparse)
        if layer_added is None:
            return matrix

        if std_layer_added is not None:
            replicates = self._replicates(edit, n_bootstrap, random_state, batch_size)
            replicates = [again.scale(strength) for again in replicates]
            std = self._std_of(replicates, adata, rows, keep_residual, random_state, batch_size)
        support = self._support(edit, adata, rows, batch_size)
        n_unsupported = int((support["support"] < UNSUPPORTED).sum())
        if n_unsupported > len(rows) / 2:
            msg = (
                f"{n_unsupported} of {len(rows)} query cells are unlike the source cells the edit was learnt on; "
                f"see adata.obs['{layer_added}_support']."
            )
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
        steps = [
            {"layer": s.layer, "method": s.map.name, "strength": s.strength, **s.map.get_params()} for s in edit.steps
        ]
        record = {
            "model": edit.model,
            **self._describe_data(),
            "edit": describe(edit.info),
            "steps": json.dumps(steps),
            "source": edit.info.get("source", ""),
            "target": edit.info.get("target", ""),
            "n_source": edit.info.get("n_source", 0),
            "n_target": edit.info.get("n_target", 0),
            "match_key": edit.info.get("match_key", ""),
            "query": "default" if query is None else describe_selection(query),
            "n_query": len(rows),
            "keep_residual": keep_residual,
            "strength": strength,
            "random_state": random_state,
            "support": {
                "mean": float(support["support"].mean()),
                "share_unsupported": n_unsupported / len(rows),
                "mean_share_outside": float(support["share_outside"].mean()),
            },
        }
        adata.layers[layer_added] = matrix
        if std_layer_added is not None:
            adata.layers[std_layer_added] = std
            record |= {"std_layer": std_layer_added, "n_bootstrap": n_bootstrap}
        scores = np.full(adata.n_obs, np.nan)
        scores[rows] = support["support"]
        adata.obs[f"{layer_added}_support"] = scores
        record_layer(adata, layer_added, record)
        return None

    def predict_condition(
        self,
        source: Selection,
        target: Selection,
        query: Selection | None = None,
        adata: AnnData | None = None,
        layer_added: str | None = "predicted",
        *,
        method: str | ActivationMap | Sequence[str | ActivationMap] = "auto",
        layers: str | Sequence[str] | None = None,
        match_labels: bool = True,
        keep_residual: bool = True,
        strength: float = 1.0,
        overwrite: bool = False,
        random_state: int = 0,
        batch_size: int | None = None,
        silent: bool = True,
        **params: Any,
    ) -> NDArray[np.float32] | None:
        """Predict cells in a condition they were not measured in.

        Learns the edit from ``source`` to ``target`` on the model's own data and applies it to ``query``:
        :meth:`learn_edit`, then :meth:`apply_edit`, whose arguments these are.

        Parameters
        ----------
        source, target
            The cells before and after the change.
        query
            The cells to predict. If ``None``: the source cells of labels without target cells, or, if there are
            none, all source cells.
        adata
            AnnData that holds the query. The model's own if ``None``.
        layer_added
            Layer of ``adata`` to write. ``None`` returns the prediction instead.
        method, layers, match_labels
            See :meth:`learn_edit`.
        keep_residual, strength, overwrite, random_state, batch_size, silent
            See :meth:`apply_edit`.
        **params
            Parameters of the activation map, such as ``n_neighbors``.

        Returns
        -------
        ``None``, or without ``layer_added`` the predicted query cells, of shape ``[n_query, n_vars]``.
        """
        edit = self.learn_edit(
            source,
            target,
            method,
            layers=layers,
            match_labels=match_labels,
            random_state=random_state,
            batch_size=batch_size,
            **params,
        )
        return self.apply_edit(
            edit,
            adata,
            query,
            keep_residual=keep_residual,
            strength=strength,
            layer_added=layer_added,
            overwrite=overwrite,
            random_state=random_state,
            batch_size=batch_size,
            silent=silent,
        )

    def _checked_layers(
        self, method: str | ActivationMap | Sequence[str | ActivationMap], layers: str | Sequence[str] | None
    ) -> tuple[list[str | ActivationMap], list[str]]:
        """A map for each layer, in the order of the network. ``"auto"`` stands alone, maybe without layers."""
        is_auto = isinstance(method, str) and method == "auto"
        if layers is None:
            layers = [] if is_auto else ["code"]
        elif not layers:
            msg = "layers is empty; name at least one layer."
            raise ValueError(msg)
        layers = [layers] if isinstance(layers, str) else list(layers)
        names = self.module.layer_names
        if unknown := [layer for layer in layers if layer not in names]:
            raise ValueError(unknown_name("layers entry", unknown[0], "the network", names))
        methods = [method] * len(layers) if isinstance(method, str | ActivationMap) else list(method)
        if "auto" in methods and not is_auto:
            msg = "method='auto' chooses a map for every layer; it cannot be one of several."
            raise ValueError(msg)
        if len(methods) != len(layers):
            msg = f"method has {len(methods)} entries for {len(layers)} layers; give one map for each layer, or one for all."
            raise ValueError(msg)
        by_layer = dict(zip(layers, methods, strict=True))
        layers = [layer for layer in names if layer in by_layer]
        return ["auto"] if is_auto else [by_layer[layer] for layer in layers], layers

    def _check_new_layers(
        self, adata: AnnData, layer_added: str | None, std_layer_added: str | None, *, overwrite: bool
    ) -> None:
        if std_layer_added is not None and std_layer_added == layer_added:
            msg = f"std_layer_added={std_layer_added!r} is layer_added as well; give it another name."
            raise ValueError(msg)
        if std_layer_added is not None and layer_added is None:
            msg = f"std_layer_added={std_layer_added!r} is only written along with layer_added, which is None."
            raise ValueError(msg)
        for argument, layer in (("layer_added", layer_added), ("std_layer_added", std_layer_added)):
            if layer is not None:
                check_layer_is_free(adata, layer, overwrite=overwrite, argument=argument)

    def _warn_of_target_cells(self, edit: Edit, adata: AnnData, query: NDArray[np.bool_]) -> None:
        if "selection_target" not in edit.info or edit.info["cells"] != fingerprint_cells(adata):
            return
        target = self._select(adata, edit.info["selection_target"], "target of the edit")
        if n_both := int((query & target).sum()):
            msg = (
                f"{n_both} of {query.sum()} query cells are target cells of the edit, which it would change once more."
            )
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
