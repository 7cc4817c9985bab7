"""Learning and applying edits: the part of the model class that neuron editing is."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scvi_neuronedit.data import (
    MatrixReader,
    assemble,
    check_layer_is_free,
    describe_selection,
    match_features,
    record_layer,
    select_cells,
    select_populations,
)
from scvi_neuronedit.edit import Edit, carry_counts, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Selection
    from scvi_neuronedit.edit import ActivationMap


class EditingMixin:
    """Methods that learn edits between populations and apply them to others."""

    def learn_edit(
        self,
        source: Selection,
        target: Selection,
        *,
        method: str | ActivationMap = "neighbor",
        layers: str | Sequence[str] = "code",
        match_labels: bool = True,
        adata: AnnData | None = None,
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
            ``"neighbor"`` (Amodio et al., MLSP 2020), ``"percentile"`` (Amodio et al., 2018), ``"mean"`` (latent
            arithmetic), ``"gaussian"`` (affine optimal transport), or an activation map.
        layers
            Layer, or layers, whose activations are edited. With several, each later one is learnt on the source as
            edited so far.
        match_labels
            Whether to give both populations the same composition of the registered labels. Cells of labels that
            lack one side are left out of learning.
        adata
            AnnData the selections refer to. The model's own if ``None``.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        **params
            Parameters of the activation map, such as ``n_neighbors``.

        Returns
        -------
        The edit.
        """
        adata = self._checked_adata(adata)
        layers = [layers] if isinstance(layers, str) else list(layers)
        for layer in layers:
            self._check_layer(layer)
        layers = [layer for layer in self.module.autoencoder.layer_names if layer in layers]
        populations = select_populations(
            adata,
            source,
            target,
            condition_key=self._setup_arg("condition_key"),
            labels_key=self._setup_arg("labels_key") if match_labels else None,
        )
        weights = {"source_weights": populations.source_weights, "target_weights": populations.target_weights}
        edit = Edit((), self.fingerprint, populations.info)
        for layer in layers:
            source_activations = self._activations(adata, populations.source, layer, edit, batch_size=batch_size)
            target_activations = self._activations(adata, populations.target, layer, batch_size=batch_size)
            step = Edit.learn(source_activations, target_activations, method=method, layer=layer, **weights, **params)
            edit = Edit(edit.steps + step.steps, edit.model, edit.info)
        return edit

    def apply_edit(
        self,
        edit: Edit,
        adata: AnnData | None = None,
        query: Selection | None = None,
        *,
        keep_residual: bool = True,
        strength: float = 1.0,
        layer_added: str | None = None,
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
            Whether each cell keeps what the autoencoder does not explain of it. With the normal likelihood the
            result is ``x + D(edited) - D(unedited)``; with counts each count keeps its quantile, so that the result is
            counts. Without, the result is the decoded mean.
        strength
            Share of the edit's displacement to apply: 0 is none, 1 all.
        layer_added
            Write the result into this layer of ``adata``, with a record in ``adata.uns["neuronedit"]``.
        overwrite
            Whether an existing layer may be replaced.
        random_state
            Seed of the positions of counts within their quantiles; see :func:`~scvi_neuronedit.edit.carry_counts`.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        Without ``layer_added`` the edited query cells, of shape ``[n_query, n_vars]``, in the order of ``adata``. With
        it ``None``; ``adata.layers[layer_added]`` then holds all cells, those outside the query as they were. Values
        are on the scale of the registered layer, and not negative where that layer is not.
        """
        adata = self._checked_adata(adata)
        self._check_edit(edit)
        if layer_added is not None:
            check_layer_is_free(adata, layer_added, overwrite=overwrite)
        mask = self._default_query(adata, edit) if query is None else self._select(adata, query, "query")
        rows = np.flatnonzero(mask)
        reader = MatrixReader(adata, self._setup_arg("layer"))
        matrix = assemble(
            reader,
            rows,
            self._edited_minibatches(
                edit.scale(strength), adata, rows, keep_residual, random_state, batch_size, silent
            ),
            whole_layer=layer_added is not None,
            keep_sparse=layer_added is not None and reader.is_sparse and keep_residual and self._is_count_model,
        )
        if layer_added is None:
            return matrix
        support = self._share_outside(edit, adata, rows, batch_size)
        adata.layers[layer_added] = matrix
        record = {
            "model": edit.model,
            "layer": self._setup_arg("layer") or "X",
            "likelihood": self.module.likelihood,
            "edit": describe(edit.info),
            "steps": json.dumps([{"layer": s.layer, "method": s.map.name, **s.map.get_params()} for s in edit.steps]),
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
            "support": {"mean_share_outside": float(support.mean()), "max_share_outside": float(support.max())},
        }
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
        method: str | ActivationMap = "neighbor",
        layers: str | Sequence[str] = "code",
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
            source, target, method=method, layers=layers, match_labels=match_labels, batch_size=batch_size, **params
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

    def _select(self, adata: AnnData, selection: Selection, argument: str) -> NDArray[np.bool_]:
        return select_cells(adata, selection, argument=argument, condition_key=self._setup_arg("condition_key"))

    def _default_query(self, adata: AnnData, edit: Edit) -> NDArray[np.bool_]:
        if "selection_source" not in edit.info:
            msg = "query must be given: this edit does not know which cells it was learnt on."
            raise ValueError(msg)
        source = self._select(adata, edit.info["selection_source"], "source of the edit")
        if adata is self.adata and "labels" in edit.info:
            learnt_on = adata.obs[edit.info["match_key"]].astype(str).isin(edit.info["labels"]).to_numpy()
            if (source & ~learnt_on).any():
                return source & ~learnt_on
        return source

    def _check_edit(self, edit: Edit) -> None:
        if not isinstance(edit, Edit):
            msg = f"edit is a {type(edit).__name__}; it must be an Edit, as learn_edit returns."
            raise TypeError(msg)
        if edit.model != self.fingerprint:
            msg = (
                f"edit was learnt by another model, or before this one was trained further (the edit's model is "
                f"{edit.model!r}, this one {self.fingerprint!r}); learn it again."
            )
            raise ValueError(msg)

    def _share_outside(
        self, edit: Edit, adata: AnnData, rows: NDArray[np.intp], batch_size: int | None
    ) -> NDArray[np.float64]:
        """Share of each cell's edited neurons outside the range of the source cells, mean over layers."""
        shares = [
            edit.share_outside(self._activations(adata, rows, layer, batch_size=batch_size), layer)
            for layer in edit.layers
        ]
        return np.mean(shares, axis=0)

    def _edited_minibatches(
        self,
        edit: Edit,
        adata: AnnData,
        rows: NDArray[np.intp],
        keep_residual: bool,
        random_state: int,
        batch_size: int | None,
        silent: bool,
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Where among ``rows``, and the edited rows of the layer, minibatch by minibatch."""
        edits = {layer: partial(edit, layer=layer) for layer in edit.layers}
        columns = match_features(adata, self.var_names_)
        rng = np.random.default_rng(random_state)
        for where, values, x, size_factor in self._minibatches(adata, rows, batch_size, silent=silent):
            before, after = (mean.cpu().numpy() for mean in self.module.edit(x, size_factor, edits))
            if not keep_residual:
                edited = after
            elif self._is_count_model:
                edited = carry_counts(x.numpy(), before, after, rng, self.module.inverse_dispersion())
            else:
                edited = x.numpy() + (after - before)
            values[:, columns] = edited.clip(min=0) if self.nonnegative_ else edited
            yield where, values
