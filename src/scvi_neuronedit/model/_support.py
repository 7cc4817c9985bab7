"""How well the source cells of an edit speak for other cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Selection
    from scvi_neuronedit.edit import Edit


class SupportMixin:
    """Methods that say how far an edit extrapolates."""

    def get_edit_support(
        self,
        edit: Edit,
        query: Selection | None = None,
        adata: AnnData | None = None,
        *,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """How well the source cells an edit was learnt on speak for the query.

        Parameters
        ----------
        edit
            The edit; learnt by this model.
        query
            The cells. As for :meth:`apply_edit` if ``None``.
        adata
            AnnData that holds the query. The model's own if ``None``.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.

        Returns
        -------
        A row for each query cell, in the order of ``adata``, about the first layer edited: ``support``, the share of
        source cells that lie at least as far from the other source cells as this cell does (0: farther out than all),
        and ``share_outside``, the share of neurons outside the range the source cells showed.
        """
        adata = self._checked_adata(adata)
        self._check_edit(edit)
        mask = self._query(adata, edit, query)
        return self._support(edit, adata, np.flatnonzero(mask), batch_size)

    def _support(self, edit: Edit, adata: AnnData, rows: NDArray[np.intp], batch_size: int | None) -> pd.DataFrame:
        if not edit.steps:
            return pd.DataFrame({"support": 1.0, "share_outside": 0.0}, index=adata.obs_names[rows])
        states = self._states(adata, rows, edit.layers[0], batch_size=batch_size)
        return pd.DataFrame(
            {"support": edit.support(states), "share_outside": edit.share_outside(states, edit.layers[0])},
            index=adata.obs_names[rows],
        )
