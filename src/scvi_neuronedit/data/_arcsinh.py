"""The arcsinh scale of cytometry, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scvi_neuronedit.data._layers import check_layer_is_free, record_layer
from scvi_neuronedit.data._matrix import MatrixReader
from scvi_neuronedit.data._names import listed, unknown_name

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

COFACTOR = "cofactor"
_NOT_MARKERS = ("fsc", "ssc", "time")


def arcsinh(
    adata: AnnData,
    cofactor: float | Mapping[str, float] = 5.0,
    *,
    layer: str | None = "raw",
    layer_added: str = "transformed",
    overwrite: bool = False,
) -> None:
    """Bring intensities to the scale ``arcsinh(intensity / cofactor)``.

    Parameters
    ----------
    adata
        Intensities as measured.
    cofactor
        In the units of the intensities. One number is taken for all markers (``adata.var["kind"]``, or, where there is
        no such column, all but scatter and time), usually 5 in mass and 150 in flow cytometry; a mapping gives
        each marker its own, and may name other channels. Channels without a cofactor stay as they are.
    layer
        Layer with the intensities; ``X`` if ``None``.
    layer_added
        Layer to write, float32. The cofactors are written into ``adata.var["cofactor"]``, NaN for channels that stay as
        they are.
    overwrite
        Whether an existing layer may be replaced.
    """
    cofactors = _cofactors(adata, cofactor)
    check_layer_is_free(adata, layer_added, overwrite=overwrite)
    values = MatrixReader(adata, layer)(np.arange(adata.n_obs))
    adata.layers[layer_added] = _forward(values, cofactors)
    adata.var[COFACTOR] = cofactors
    record_layer(adata, layer_added, {"transform": "arcsinh(x / adata.var['cofactor'])", "layer": layer or "X"})


def inverse_arcsinh(
    adata: AnnData, layer: str | None = "transformed", *, layer_added: str | None = None, overwrite: bool = False
) -> NDArray[np.float32] | None:
    """Bring a layer from the arcsinh scale back to the raw one, ``cofactor * sinh(value)``.

    Where a value is what :func:`arcsinh` makes of the layer ``"raw"``, the raw value itself is given back, so that what no
    correction changed keeps every bit.

    Parameters
    ----------
    adata
        With the cofactors that :func:`arcsinh` wrote.
    layer
        Layer on the arcsinh scale, such as a corrected one; ``X`` if ``None``.
    layer_added
        Layer to write. If ``None`` the values are returned.
    overwrite
        Whether an existing layer may be replaced.

    Returns
    -------
    Without ``layer_added`` float32 values of shape ``[n_obs, n_vars]``, with it ``None``.
    """
    if COFACTOR not in adata.var:
        msg = "adata.var has no column 'cofactor'; it is written by scvi_neuronedit.data.arcsinh."
        raise KeyError(msg)
    if layer_added is not None:
        check_layer_is_free(adata, layer_added, overwrite=overwrite)
    cofactors = adata.var[COFACTOR].to_numpy(dtype=np.float64)
    everything = np.arange(adata.n_obs)
    values = MatrixReader(adata, layer)(everything)
    columns = np.flatnonzero(~np.isnan(cofactors))
    inverse = values.copy()
    inverse[:, columns] = np.sinh(values[:, columns].astype(np.float64)) * cofactors[columns]
    if "raw" in adata.layers:
        raw = MatrixReader(adata, "raw")(everything)
        inverse = np.where(_forward(raw, cofactors) == values, raw, inverse)
    if layer_added is None:
        return inverse
    adata.layers[layer_added] = inverse
    record_layer(adata, layer_added, {"transform": "adata.var['cofactor'] * sinh(x)", "layer": layer or "X"})
    return None


def _forward(values: NDArray[np.float32], cofactors: NDArray[np.float64]) -> NDArray[np.float32]:
    columns = np.flatnonzero(~np.isnan(cofactors))
    transformed = values.copy()
    transformed[:, columns] = np.arcsinh(values[:, columns].astype(np.float64) / cofactors[columns])
    return transformed


def _cofactors(adata: AnnData, cofactor: float | Mapping[str, float]) -> NDArray[np.float64]:
    if "kind" in adata.var:
        is_marker = (adata.var["kind"] == "marker").to_numpy()
    else:
        is_marker = np.array([not name.lower().startswith(_NOT_MARKERS) for name in adata.var_names], dtype=bool)
    if isinstance(cofactor, Mapping | pd.Series):
        for name in (given := dict(cofactor)):
            if name not in adata.var_names:
                raise KeyError(unknown_name("cofactor of marker", name, "adata.var_names", list(adata.var_names)))
        if missing := [name for name in adata.var_names[is_marker] if name not in given]:
            msg = f"cofactor names no number for the markers {listed(missing)}."
            raise ValueError(msg)
        cofactors = np.array([given.get(name, np.nan) for name in adata.var_names], dtype=np.float64)
        checked = np.array(list(given.values()), dtype=np.float64)
    else:
        cofactors = np.where(is_marker, float(cofactor), np.nan)
        checked = np.array([float(cofactor)])
    if not (np.isfinite(checked) & (checked > 0)).all():
        msg = f"cofactor={cofactor!r}; every cofactor must be a positive number."
        raise ValueError(msg)
    return cofactors
