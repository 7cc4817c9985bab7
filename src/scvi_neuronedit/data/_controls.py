"""Control samples that were measured in several batches, and how they join the batches."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import shortest_path
from scvi import settings

from scvi_neuronedit.data._names import listed, unknown_name
from scvi_neuronedit.data._obs import check_obs_column
from scvi_neuronedit.data._populations import MIN_CELLS
from scvi_neuronedit.data._selection import select_cells

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data._selection import Selection

LARGEST, POOLED = "largest", "pooled"


@dataclass(frozen=True)
class Controls:
    """Which control each cell belongs to, and which batches share which controls.

    Parameters
    ----------
    batch
        Batch of every cell.
    control
        Name of the control of every cell; empty for cells of no control.
    usable
        Whether a batch (row) has at least 20 cells of a control (column).
    """

    batch: NDArray[np.str_]
    control: NDArray[np.str_]
    usable: pd.DataFrame

    def shared(self, source: str, target: str) -> list[str]:
        """Controls that can teach the way from one batch to another, or to all batches pooled: then those all batches have.

        Parameters
        ----------
        source, target
            Batches; ``target`` may be ``"pooled"``.
        """
        others = self.usable.all() if target == POOLED else self.usable.loc[target]
        return self.usable.columns[self.usable.loc[source] & others].tolist()

    def cells(self, batch: str, controls: list[str]) -> NDArray[np.intp]:
        """Positions of the cells of some controls in a batch, or in all of them.

        Parameters
        ----------
        batch
            A batch or ``"pooled"``.
        controls
            Names of controls.
        """
        in_batch = np.ones(len(self.batch), dtype=bool) if batch == POOLED else self.batch == batch
        return np.flatnonzero(in_batch & np.isin(self.control, controls))

    def paths(self, reference: str) -> dict[str, list[str]]:
        """For every batch that is corrected, the batches on the shortest way to the reference.

        Parameters
        ----------
        reference
            A batch, which is not corrected itself, or ``"pooled"``.

        Raises
        ------
        ValueError
            There is no way for some batches.
        """
        batches = self.usable.index.tolist()
        if reference == POOLED:
            if not self.usable.all().any():
                msg = (
                    "reference 'pooled' needs a control that every batch has, or pools of different batches would be "
                    f"compared ({self._of_each()}); name a batch, towards which the others are chained."
                )
                raise ValueError(msg)
            return {batch: [batch, POOLED] for batch in batches}
        joined = self.usable.to_numpy(dtype=int) @ self.usable.to_numpy(dtype=int).T > 0
        _, towards = shortest_path(joined, unweighted=True, return_predecessors=True, indices=batches.index(reference))
        paths = {}
        for i, batch in enumerate(batches):
            path = [i]
            while towards[path[-1]] >= 0:
                path.append(towards[path[-1]])
            if len(path) > 1:
                paths[batch] = [batches[j] for j in path]
        if unreached := [batch for batch in batches if batch not in paths and batch != reference]:
            msg = (
                f"reference {reference!r} cannot be reached from {listed(unreached)}: no chain of shared controls leads "
                f"there ({self._of_each()})."
            )
            raise ValueError(msg)
        return paths

    def _of_each(self) -> str:
        controls = {batch: self.usable.columns[row].tolist() for batch, row in self.usable.iterrows()}
        of_each = "; ".join(f"{batch}: {', '.join(found) or 'none'}" for batch, found in controls.items())
        return f"controls with at least {MIN_CELLS} cells: {of_each}"


def find_controls(
    adata: AnnData, selection: Selection, *, batch_key: str, condition_key: str | None = None
) -> Controls:
    """Find the control cells of every batch.

    Parameters
    ----------
    adata
        The cells.
    selection
        The control cells. With a mapping, every combination of its values is a control of its own: cells of different
        controls are never compared.
    batch_key
        Column of ``adata.obs`` with the batch.
    condition_key
        Column whose values may be named as selection.

    Raises
    ------
    KeyError, TypeError, ValueError
        As for :func:`select_cells`; there is only one batch; a control is in one batch only; or a batch has control
        cells, but fewer than 20 of each control. Where others do, controls with fewer are left out with a warning.
    """
    check_obs_column(adata, "batch_key", batch_key)
    batch = adata.obs[batch_key].astype(str).to_numpy()
    if len(np.unique(batch)) < 2:
        msg = f"adata.obs[{batch_key!r}] holds one batch only ({batch[0]}); there is nothing to correct."
        raise ValueError(msg)
    if POOLED in batch:
        msg = f"adata.obs[{batch_key!r}] holds a batch named {POOLED!r}, which stands for all batches; rename it."
        raise ValueError(msg)
    is_control = select_cells(adata, selection, argument="controls", condition_key=condition_key)
    control = np.where(is_control, "control", "").astype(object)
    if isinstance(selection, Mapping):
        values = adata.obs.loc[is_control, list(selection)].astype(str)
        control[is_control] = values.agg(", ".join, axis=1).to_numpy()
    elif np.isscalar(selection):
        control[is_control] = str(selection)
    control = control.astype(str)
    n_cells = pd.crosstab(batch, control).drop(columns="", errors="ignore")
    for name in n_cells:
        found = n_cells.index[n_cells[name] > 0].tolist()
        if len(found) == 1:
            msg = f"control {name!r} is in one batch only ({found[0]}); a control must have been measured in several."
            raise ValueError(msg)
    usable = n_cells >= MIN_CELLS
    few = [(b, c) for b, c in zip(*np.nonzero(((n_cells > 0) & ~usable).to_numpy()), strict=True)]
    for row, column in few:
        text = (
            f"batch {n_cells.index[row]!r} has {n_cells.iloc[row, column]} cells of control {n_cells.columns[column]!r}"
        )
        if not usable.iloc[row].any():
            msg = f"{text}; at least {MIN_CELLS} are needed."
            raise ValueError(msg)
        msg = f"{text}, fewer than {MIN_CELLS}; it is left out there."
        warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
    return Controls(batch, control, usable)


def check_reference(reference: str, batch: NDArray[np.str_], batch_key: str) -> str:
    """The batch that a reference stands for, or ``"pooled"``.

    Parameters
    ----------
    reference
        A batch, ``"largest"`` or ``"pooled"``.
    batch
        Batch of every cell.
    batch_key
        Name of the column, for the error message.
    """
    batches, n_cells = np.unique(batch, return_counts=True)
    if str(reference) in batches:
        return str(reference)
    if reference == LARGEST:
        return str(batches[n_cells.argmax()])
    if reference != POOLED:
        known = [*batches.tolist(), LARGEST, POOLED]
        raise ValueError(unknown_name("reference", str(reference), f"adata.obs[{batch_key!r}]", known))
    return POOLED
