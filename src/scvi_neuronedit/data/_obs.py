"""Columns of obs that a model registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scvi_neuronedit.data._names import unknown_name

if TYPE_CHECKING:
    from anndata import AnnData


def check_obs_column(adata: AnnData, argument: str, column: str | None, owner: str = "adata") -> None:
    """Refuse a column that is not there or has gaps.

    Parameters
    ----------
    adata
        AnnData to look at.
    argument
        Name of the argument, for error messages.
    column
        Name of the column; ``None`` if there is none to check.
    owner
        What to call the AnnData in error messages.
    """
    if column is None:
        return
    if column not in adata.obs:
        raise KeyError(unknown_name(argument, column, f"{owner}.obs", adata.obs.columns))
    if n_missing := int(adata.obs[column].isna().sum()):
        msg = f"{argument}: {owner}.obs[{column!r}] has no value for {n_missing} of {adata.n_obs} cells."
        raise ValueError(msg)


def check_size_factors(adata: AnnData, column: str | None) -> None:
    """Refuse size factors that are not positive numbers.

    Parameters
    ----------
    adata
        AnnData to look at.
    column
        Name of the column; ``None`` if there is none to check.
    """
    if column is None:
        return
    check_obs_column(adata, "size_factor_key", column)
    values = adata.obs[column].to_numpy(dtype=float)
    if not (np.isfinite(values) & (values > 0)).all():
        msg = f"size_factor_key: adata.obs[{column!r}] must be positive and finite; its minimum is {values.min():g}."
        raise ValueError(msg)
