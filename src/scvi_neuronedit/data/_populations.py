"""The two populations an edit is learnt between."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scvi import settings

from scvi_neuronedit.data._names import listed
from scvi_neuronedit.data._obs import check_obs_column
from scvi_neuronedit.data._selection import describe_selection, select_cells, storable_selection
from scvi_neuronedit.edit import composition_weights

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data._selection import Selection

MIN_CELLS = 20


@dataclass(frozen=True)
class Populations:
    """Source and target cells, and where they come from.

    Parameters
    ----------
    source, target
        Positions of the cells, increasing.
    source_weights, target_weights
        Weights of the cells, under which both sides hold every label in the same share. ``None`` if all are equal.
    source_groups, target_groups
        Labels of the cells. ``None`` if there are none.
    info
        Selections, numbers of cells and labels, as an :class:`~scvi_neuronedit.edit.Edit` keeps them.
    unpaired
        Positions and labels of further source cells, whose label the target lacks. ``None`` if there are none.
    """

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    source_weights: NDArray[np.float64] | None
    target_weights: NDArray[np.float64] | None
    source_groups: NDArray[np.str_] | None
    target_groups: NDArray[np.str_] | None
    info: dict[str, Any]
    unpaired: tuple[NDArray[np.intp], NDArray[np.str_]] | None = None

    def subset(self, source: NDArray, target: NDArray) -> Populations:
        """Some of the cells.

        Parameters
        ----------
        source, target
            Which of the source and target cells: masks, or positions in any order and number.
        """

        def pick(values: NDArray | None, which: NDArray) -> NDArray | None:
            return None if values is None else values[which]

        return Populations(
            self.source[source],
            self.target[target],
            pick(self.source_weights, source),
            pick(self.target_weights, target),
            pick(self.source_groups, source),
            pick(self.target_groups, target),
            self.info,
            self.unpaired,
        )

    def leave_out(self, source: NDArray[np.bool_], target: NDArray[np.bool_]) -> Populations:
        """All but some of the cells. Source cells left out with their whole label are unpaired ones then.

        Parameters
        ----------
        source, target
            Masks of the source and target cells to leave out.
        """
        kept = self.subset(~source, ~target)
        if self.source_groups is None:
            return kept
        alone = source & ~np.isin(self.source_groups, kept.source_groups)
        if not alone.any():
            return kept
        unpaired = self.source[alone], self.source_groups[alone]
        if self.unpaired is not None:
            unpaired = tuple(np.concatenate(both) for both in zip(self.unpaired, unpaired, strict=True))
        return replace(kept, unpaired=unpaired)


def select_populations(
    adata: AnnData,
    source: Selection,
    target: Selection,
    *,
    condition_key: str | None,
    labels_key: str | None,
    warn: bool = True,
) -> Populations:
    """Find source and target cells and give them the same composition.

    Parameters
    ----------
    adata
        What the selections refer to.
    source, target
        The cells before and after the change.
    condition_key
        Column that holds the conditions.
    labels_key
        Column whose values both sides shall hold in the same share; cells of labels that lack one side are left out,
        with a warning. ``None`` takes all cells as they are.
    warn
        Whether to warn.

    Raises
    ------
    KeyError, ValueError, TypeError
        As for :func:`select_cells`; or the sides overlap, share no label, or have fewer than 20 cells.
    """
    masks = {
        argument: select_cells(adata, selection, argument=argument, condition_key=condition_key)
        for argument, selection in (("source", source), ("target", target))
    }
    if n_both := int((masks["source"] & masks["target"]).sum()):
        msg = f"source and target share {n_both} cells; they must not overlap."
        raise ValueError(msg)
    rows = {argument: np.flatnonzero(mask) for argument, mask in masks.items()}
    weights: dict[str, NDArray | None] = {"source": None, "target": None}
    groups: dict[str, NDArray | None] = {"source": None, "target": None}
    info = {
        "cells": fingerprint_cells(adata),
        "source": describe_selection(source),
        "target": describe_selection(target),
        "selection_source": storable_selection(adata, source),
        "selection_target": storable_selection(adata, target),
    }
    unpaired = None
    matched = ""
    if labels_key is not None:
        check_obs_column(adata, "labels_key", labels_key)
        labels = adata.obs[labels_key].astype(str).to_numpy()
        weights["source"], weights["target"] = composition_weights(labels[rows["source"]], labels[rows["target"]])
        alone = rows["source"][weights["source"] == 0]
        unpaired = (alone, labels[alone]) if len(alone) else None
        for argument, weight in weights.items():
            rows[argument], weights[argument] = rows[argument][weight > 0], weight[weight > 0]
            groups[argument] = labels[rows[argument]]
        shared = np.unique(groups["source"]).tolist()
        _report_labels(labels[masks["source"] | masks["target"]], shared, labels_key, warn=warn)
        info |= {"match_key": labels_key, "labels": shared}
        matched = f" after matching on {labels_key!r}"
    for argument, found in rows.items():
        if len(found) < MIN_CELLS:
            msg = f"{argument} has {len(found)} cells{matched}; at least {MIN_CELLS} are needed to learn an edit."
            raise ValueError(msg)
        info[f"n_{argument}"] = len(found)
    return Populations(*rows.values(), *weights.values(), *groups.values(), info, unpaired)


def fingerprint_cells(adata: AnnData) -> str:
    """Short hash of the obs names: which cells an edit was learnt on.

    Parameters
    ----------
    adata
        The cells.
    """
    return hashlib.sha256("\n".join(adata.obs_names).encode()).hexdigest()[:16]


def _report_labels(labels: NDArray, shared: list[str], labels_key: str, *, warn: bool) -> None:
    if not shared:
        msg = (
            f"source and target share no value of adata.obs[{labels_key!r}]; pass match_labels=False to learn an edit "
            "between populations of different composition."
        )
        raise ValueError(msg)
    if warn and (left_out := np.setdiff1d(labels, shared).tolist()):
        msg = f"left out of learning, for lack of source or target cells: {labels_key} {listed(left_out)}."
        warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
