"""Which rows the ``indices`` of a method mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import JoinedModalities


def rows_of(adata: AnnData | JoinedModalities, indices: Sequence[int] | None) -> NDArray[np.intp]:
    """Positions of the cells that are meant.

    Parameters
    ----------
    adata
        Holds the cells.
    indices
        Positions, in the order wanted, or a boolean mask; all if ``None``.
    """
    rows = np.arange(adata.n_obs)
    if indices is None:
        return rows
    indices = np.asarray(indices)
    return rows[indices if indices.dtype == bool else indices.astype(np.intp)]
