"""Running cells through the network, with edits on the way: what the other parts of the model class stand on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mudata import MuData
from scvi import settings
from scvi.utils import track

from scvi_neuronedit.data import (
    JoinedModalities,
    MatrixReader,
    check_size_factors,
    fingerprint_cells,
    match_features,
    select_cells,
    unknown_name,
)
from scvi_neuronedit.edit import CellDraws, Edit
from scvi_neuronedit.model._fingerprint import fingerprint_model
from scvi_neuronedit.model._residual import ResidualMixin, draws_by_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import JoinedReader, Selection
    from scvi_neuronedit.edit import Step


class ForwardMixin(ResidualMixin):
    """Methods that select cells, read them in minibatches and run them through the network."""

    @property
    def fingerprint(self) -> str:
        """Short hash of the features and weights. Two models with the same one compute the same."""
        return fingerprint_model(self.var_names_, self.module)

    @property
    def _has_counts(self) -> bool:
        return any(head.is_count for head in self.module.heads)

    @property
    def _is_count(self) -> NDArray[np.bool_]:
        """Whether each feature is counts."""
        return np.repeat([head.is_count for head in self.module.heads], self.module.widths)

    def _table(self, adata: AnnData | MuData) -> AnnData | JoinedModalities:
        """An AnnData as it is, a MuData as its modalities side by side."""
        if isinstance(adata, JoinedModalities):
            return adata
        if self._modalities is not None:
            return JoinedModalities(adata, self._modalities)
        if isinstance(adata, MuData):
            msg = (
                "adata is a MuData, but the model is one of an AnnData (setup_anndata); pass the AnnData of a modality."
            )
            raise TypeError(msg)
        return adata

    def _reader(self, adata: AnnData | JoinedModalities) -> MatrixReader | JoinedReader:
        """Reader of the registered layer, or layers."""
        return adata.reader if isinstance(adata, JoinedModalities) else MatrixReader(adata, self._setup_arg("layer"))

    def _checked_adata(self, adata: AnnData | MuData | None) -> AnnData | JoinedModalities:
        """The AnnData to work on, or what stands for one, after checking that the model can."""
        if not self.is_trained_:
            msg = "the model is not trained; call train() first."
            raise RuntimeError(msg)
        adata = self.adata if adata is None else adata
        if adata is None:
            msg = "the model was loaded without data: learning, and whatever is not given its own adata, needs adata."
            raise ValueError(msg)
        return self._table(adata)

    def _check_layer(self, layer: str) -> None:
        names = [*self.module.layer_names]
        if len(self.module.networks) > 1:
            names += [name for layer in self.module.layer_names for name in self.module.names_in_networks(layer)]
        if layer not in names:
            raise ValueError(unknown_name("layer", layer, "the network", names))

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

    def _select(self, adata: AnnData, selection: Selection, argument: str) -> NDArray[np.bool_]:
        return select_cells(adata, selection, argument=argument, condition_key=self._setup_arg("condition_key"))

    def _query(self, adata: AnnData, edit: Edit, query: Selection | None) -> NDArray[np.bool_]:
        """Mask of the cells to edit; without a query, of the source cells the edit was not learnt on."""
        if query is not None:
            return self._select(adata, query, "query")
        if "selection_source" not in edit.info:
            msg = "query must be given: this edit does not know which cells it was learnt on."
            raise ValueError(msg)
        source = self._select(adata, edit.info["selection_source"], "source of the edit")
        if "labels" in edit.info and edit.info["cells"] == fingerprint_cells(adata):
            learnt_on = adata.obs[edit.info["match_key"]].astype(str).isin(edit.info["labels"]).to_numpy()
            if (source & ~learnt_on).any():
                return source & ~learnt_on
        return source

    def _minibatches(
        self, adata: AnnData, rows: NDArray[np.intp], batch_size: int | None, *, silent: bool
    ) -> Iterator[tuple[slice, NDArray[np.float32], torch.Tensor, torch.Tensor | None]]:
        """Where among ``rows``, the rows of the layer, and the network's input, minibatch by minibatch."""
        reader = self._reader(adata)
        columns = match_features(adata, self.var_names_)
        size_factor_key = self._setup_arg("size_factor_key")
        size_factors = None
        if size_factor_key is not None and self._has_counts:
            check_size_factors(adata, size_factor_key)
            size_factors = adata.obs[size_factor_key].to_numpy(dtype=np.float32)[:, None]
        batch_size = batch_size or settings.batch_size
        for first in track(range(0, len(rows), batch_size), description="Cells", disable=silent):
            where = slice(first, first + batch_size)
            values = reader(rows[where])
            x = values[:, columns]
            if getattr(adata, "mdata", adata) is not self.adata:
                for i, part in enumerate(reader.parts):
                    self._check_query_values(x[:, self.module.columns[i]], part.name, i, warn=first == 0)
            size_factor = None if size_factors is None else torch.from_numpy(size_factors[rows[where]])
            yield where, values, torch.from_numpy(x), size_factor

    def _check_query_values(self, x: NDArray[np.float32], name: str, modality: int, *, warn: bool) -> None:
        """Refuse values the network cannot have seen; warn of what looks like another scale."""
        is_count = self.module.heads[modality].is_count
        if not np.isfinite(x).all():
            msg = f"{name} holds NaN or infinite values."
            raise ValueError(msg)
        if self.nonnegative_[modality] and (x < 0).any():
            msg = (
                f"{name} holds negative values (such as {x.min():g}), but the model was trained on values without any."
            )
            raise ValueError(msg)
        is_integer = bool((x == np.rint(x)).all())
        if warn and is_integer != is_count and x.any():
            kinds = ("values that are not whole numbers", "counts")
            msg = f"{name} looks like {kinds[is_integer]}, but the model was trained on {kinds[is_count]}."
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)

    def _activations(
        self,
        adata: AnnData,
        rows: NDArray[np.intp],
        layer: str,
        edit: Edit | None = None,
        *,
        batch_size: int | None = None,
        silent: bool = True,
    ) -> NDArray[np.float32]:
        """Activations of a layer, with the edits of the layers before it (and its own)."""
        edits = {} if edit is None else {name: partial(edit, layer=name) for name in edit.layers}
        if not len(rows):
            return self._activations(adata, np.array([0]), layer)[:0]
        activations = [
            self.module.activations(x, size_factor, layer, edits).cpu().numpy()
            for _, _, x, size_factor in self._minibatches(adata, rows, batch_size, silent=silent)
        ]
        return np.concatenate(activations)

    def _states(
        self,
        adata: AnnData,
        rows: NDArray[np.intp],
        layer: str,
        edit: Edit | None = None,
        *,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """What is edited at a layer: its activations, or at the output the expression, residual included."""
        if not self._edits_expression(layer):
            return self._activations(adata, rows, layer, edit, batch_size=batch_size)
        return self._expression(adata, rows, edit, batch_size=batch_size)[:, self._levels]

    def _expression(
        self, adata: AnnData, rows: NDArray[np.intp], edit: Edit | None = None, *, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Expression of the model's features, edited or as it is."""
        edit, draws = edit or Edit(()), draws_by_step(0)
        minibatches = self._minibatches(adata, rows, batch_size, silent=True)
        return np.concatenate([self._edited(edit, x, size_factor, draws) for _, _, x, size_factor in minibatches])

    def _comparable(
        self, adata: AnnData, rows: NDArray[np.intp], edit: Edit | None = None, *, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """The same on a scale on which cells can be compared: counts as log1p of counts per 10,000."""
        x = self._expression(adata, rows, edit, batch_size=batch_size)
        for head, columns in zip(self.module.heads, self.module.columns, strict=True):
            if head.is_count:
                counts = x[:, columns]
                x[:, columns] = np.log1p(counts / counts.sum(axis=1, keepdims=True).clip(min=1) * 1e4)
        return x

    def _edits_expression(self, layer: str) -> bool:
        """Whether editing a layer is editing the expression itself, which counts do not allow."""
        return layer == "output" and not all(head.is_count for head in self.module.heads)

    @property
    def _levels(self) -> NDArray[np.bool_] | slice:
        """The features whose expression itself can be edited: those that are not counts."""
        return ~self._is_count if self._has_counts else slice(None)

    def _edited(
        self,
        edit: Edit,
        x: torch.Tensor,
        size_factor: torch.Tensor | None,
        draws: Mapping[Any, CellDraws],
        *,
        keep_residual: bool = True,
    ) -> NDArray[np.float32]:
        """Edited expression of a minibatch, of the shape of ``x``."""
        edited = x.numpy()
        # which zeros rise is decided where the network is edited
        keep_zeros = keep_residual and not all(self._edits_expression(layer) for layer in edit.layers)
        for i, part in enumerate(self._passes(edit)):
            x = torch.from_numpy(edited)
            edited = self._edited_once(
                part, x, size_factor, draws[i], keep_residual=keep_residual, keep_zeros=keep_zeros
            )
        return edited

    def _passes(self, edit: Edit) -> list[Edit]:
        """The parts of an edit, each in the order of the network; behind each, cells are decoded and encoded again.

        An edit that was learnt is one part; edits of code and output that are chained, or inverted, are several.
        """
        parts: list[list[Step]] = [[]]
        depth = 0
        for step in edit.steps:
            before, depth = depth, self.module.layer_names.index(step.layer.partition("/")[0])
            if depth < before:
                parts.append([])
            parts[-1].append(step)
        return [replace(edit, steps=tuple(steps)) for steps in parts]

    def _edited_once(
        self,
        edit: Edit,
        x: torch.Tensor,
        size_factor: torch.Tensor | None,
        draws: CellDraws,
        *,
        keep_residual: bool,
        keep_zeros: bool,
    ) -> NDArray[np.float32]:
        """One pass through the networks: the mean over those that are edited, and the edit of the expression itself."""
        edits = {layer: partial(edit, layer=layer) for layer in edit.layers if not self._edits_expression(layer)}
        edited = x.numpy()
        if edits or not keep_residual:
            before, after = (mean.mean(dim=0).cpu().numpy() for mean in self.module.edit(x, size_factor, edits))
            edited = self._clip(self._with_residual(edited, before, after, draws) if keep_residual else after)
        if "output" in edit.layers and self._edits_expression("output"):
            was_zero = edited <= 0
            edited = edited.copy()
            edited[:, self._levels] = edit(edited[:, self._levels], "output")
            if keep_zeros:
                edited[was_zero & self._level_distributions()[0]] = 0
            edited = self._clip(edited)
        return edited

    def _clip(self, edited: NDArray[np.float32]) -> NDArray[np.float32]:
        """No negative values where the registered layer has none."""
        if not any(self.nonnegative_):
            return edited
        lowest = np.repeat(np.where(self.nonnegative_, 0, -np.inf), self.module.widths)
        return np.maximum(edited, lowest.astype(np.float32))

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
        columns = match_features(adata, self.var_names_)
        draws = draws_by_step(random_state)
        for where, values, x, size_factor in self._minibatches(adata, rows, batch_size, silent=silent):
            values[:, columns] = self._edited(edit, x, size_factor, draws, keep_residual=keep_residual)
            yield where, values

    def _std_of(
        self,
        edits: Sequence[Edit],
        adata: AnnData,
        rows: NDArray[np.intp],
        keep_residual: bool,
        random_state: int,
        batch_size: int | None,
    ) -> NDArray[np.float32]:
        """Standard deviation of every predicted value over edits, of the shape of ``adata``; 0 outside ``rows``."""
        std = np.zeros(adata.shape, dtype=np.float32)
        columns = match_features(adata, self.var_names_)
        draws = [draws_by_step(random_state) for _ in edits]  # the same for all, lest they count as a difference
        for where, values, x, size_factor in self._minibatches(adata, rows, batch_size, silent=True):
            predictions = [
                self._edited(edit, x, size_factor, own, keep_residual=keep_residual)
                for edit, own in zip(edits, draws, strict=True)
            ]
            values[:] = 0
            values[:, columns] = np.std(predictions, axis=0, ddof=1)
            std[rows[where]] = values
        return std
