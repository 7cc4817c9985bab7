"""Selections: which cells of an AnnData a caller means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from scvi_neuronedit.data._names import listed, unknown_name

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

Selection: TypeAlias = str | float | Mapping[str, Any] | np.ndarray | pd.Series | Sequence[str]
"""A condition name; a mapping of obs columns to a value or list of values; a boolean mask; or obs names."""


def select_cells(
    adata: AnnData, selection: Selection, *, argument: str, condition_key: str | None = None
) -> NDArray[np.bool_]:
    """Find the cells a selection stands for.

    Parameters
    ----------
    adata
        Where to look.
    selection
        A value of ``adata.obs[condition_key]``, or its text; a mapping of obs columns to a value or list of values, all of which
        must hold; a boolean mask over cells; or obs names.
    argument
        Name of the argument, for error messages.
    condition_key
        Column that holds the conditions.

    Returns
    -------
    Boolean mask of shape ``[n_obs]``, with at least one cell.

    Raises
    ------
    KeyError
        An obs column is missing.
    ValueError
        A value, condition or obs name is unknown, or no cell is selected.
    TypeError
        The selection has none of the four forms.
    """
    if np.isscalar(selection):
        if condition_key is None:
            msg = (
                f"{argument}={selection!r} names a condition, but no condition_key was registered; "
                f"pass a mapping such as {{'column': {selection!r}}} or a boolean mask."
            )
            raise ValueError(msg)
        mask = _match_column(adata, condition_key, selection, argument)
    elif isinstance(selection, Mapping):
        if not selection:
            msg = f"{argument} is an empty mapping; name at least one column."
            raise ValueError(msg)
        mask = np.ones(adata.n_obs, dtype=bool)
        for column, values in selection.items():
            mask &= _match_column(adata, column, values, argument)
    else:
        mask = _match_cells(adata, selection, argument)
    if not mask.any():
        msg = f"{argument} selects no cell: {describe_selection(selection)}."
        raise ValueError(msg)
    return mask


def _match_column(adata: AnnData, column: str, values: Any, argument: str) -> NDArray[np.bool_]:
    if column not in adata.obs:
        msg = unknown_name(f"{argument} column", column, "adata.obs", adata.obs.columns)
        raise KeyError(msg)
    series = adata.obs[column]
    known = series.dropna().unique().tolist()
    # numbers and booleans may be named by their text, as on a command line
    by_text = {str(value): value for value in known}
    chosen = [value if value in known else by_text.get(value, value) for value in _as_list(values)]
    for value in chosen:
        if value not in known:
            raise ValueError(unknown_name(argument, value, f"adata.obs[{column!r}]", known))
    return series.isin(chosen).to_numpy()


def _as_list(values: Any) -> list:
    return list(values) if pd.api.types.is_list_like(values) else [values]


def _match_cells(adata: AnnData, selection: Any, argument: str) -> NDArray[np.bool_]:
    if isinstance(selection, pd.Series) and selection.dtype == bool:
        if not selection.index.equals(adata.obs_names):
            msg = f"{argument} is a boolean Series whose index differs from adata.obs_names; align it or pass an array."
            raise ValueError(msg)
    chosen = np.asarray(selection)
    if chosen.ndim == 1 and chosen.dtype == bool:
        if len(chosen) != adata.n_obs:
            msg = f"{argument} is a boolean mask of length {len(chosen)}; adata has {adata.n_obs} cells."
            raise ValueError(msg)
        return chosen
    if chosen.ndim == 1 and all(isinstance(name, str) for name in chosen):
        if not adata.obs_names.is_unique:
            msg = f"{argument} lists obs names, but adata.obs_names are not unique; pass a mapping or a boolean mask."
            raise ValueError(msg)
        if missing := [str(name) for name in chosen[~pd.Index(chosen).isin(adata.obs_names)]]:
            msg = f"{argument} lists {len(missing)} names that are not in adata.obs_names: {listed(missing)}."
            raise ValueError(msg)
        return adata.obs_names.isin(chosen)
    msg = (
        f"{argument} is a {type(selection).__name__}; it must be a condition name, a mapping of obs columns to values, "
        "a boolean mask or obs names."
    )
    raise TypeError(msg)


def describe_selection(selection: Selection) -> str:
    """A short text for a selection.

    Parameters
    ----------
    selection
        Any of the four forms.
    """
    if np.isscalar(selection):
        return str(selection)
    if isinstance(selection, Mapping):
        return " & ".join(f"{column}={'|'.join(map(str, _as_list(v)))}" for column, v in selection.items())
    chosen = np.asarray(selection)
    return f"mask of {chosen.sum():,} cells" if chosen.dtype == bool else f"{len(chosen):,} obs names"


def storable_selection(adata: AnnData, selection: Selection) -> str | float | dict[str, list] | list[str]:
    """A selection as JSON can hold it: masks become obs names.

    Parameters
    ----------
    adata
        What a mask refers to.
    selection
        Any of the four forms.
    """
    if np.isscalar(selection):
        return _as_python(selection)
    if isinstance(selection, Mapping):
        return {column: [_as_python(value) for value in _as_list(values)] for column, values in selection.items()}
    chosen = np.asarray(selection)
    return [str(name) for name in (adata.obs_names[chosen] if chosen.dtype == bool else chosen)]


def _as_python(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | float | int) else str(value)
