"""Leave-one-group-out splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scvi_neuronedit.data import select_cells

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """One group whose target cells are held out.

    Parameters
    ----------
    group
        The group.
    train
        Mask of the cells that may be learnt from: all but the held-out ones.
    control
        Positions of the group's source cells, from which the held-out ones are predicted.
    truth
        Positions of the held-out cells.
    """

    group: str
    train: NDArray[np.bool_]
    control: NDArray[np.intp]
    truth: NDArray[np.intp]


def leave_one_group_out(
    adata: AnnData, *, condition_key: str, labels_key: str, source: str, target: str, min_cells: int = 35
) -> list[Split]:
    """Hold out the target cells of each group in turn.

    Parameters
    ----------
    adata
        Cells of several groups in both conditions.
    condition_key, labels_key
        Columns of ``adata.obs`` with the condition and the group.
    source, target
        The two conditions.
    min_cells
        Groups with fewer cells than this in either condition are not held out.

    Returns
    -------
    A split for each group, sorted by group.
    """
    is_source = select_cells(adata, source, argument="source", condition_key=condition_key)
    is_target = select_cells(adata, target, argument="target", condition_key=condition_key)
    groups = adata.obs[labels_key].astype(str).to_numpy()
    splits = []
    for group in np.unique(groups):
        control, truth = np.flatnonzero(is_source & (groups == group)), np.flatnonzero(is_target & (groups == group))
        if min(len(control), len(truth)) >= min_cells:
            train = np.ones(adata.n_obs, dtype=bool)
            train[truth] = False
            splits.append(Split(group, train, control, truth))
    if not splits:
        msg = f"no group of adata.obs[{labels_key!r}] has {min_cells} cells in both {source!r} and {target!r}."
        raise ValueError(msg)
    return splits
