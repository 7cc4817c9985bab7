"""Writing edited cells back, as an array or as a layer, with a record of what was done."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data._matrix import MatrixReader

RECORD_KEY = "neuronedit"


def check_layer_is_free(adata: AnnData, layer_added: str, *, overwrite: bool, argument: str = "layer_added") -> None:
    """Refuse to write where it would be lost or replace something.

    Parameters
    ----------
    adata
        AnnData to be written to.
    layer_added
        Name of the layer.
    overwrite
        Whether an existing layer may be replaced.
    argument
        Name of the argument, for error messages.
    """
    if not layer_added or "/" in layer_added:
        msg = (
            f"{argument}={layer_added!r}; the name of a layer must not be empty or hold '/', which files cannot store."
        )
        raise ValueError(msg)
    if adata.is_view:
        msg = f"adata is a view, and the layer {layer_added!r} would be written to a copy of it; pass adata.copy()."
        raise ValueError(msg)
    if layer_added in adata.layers and not overwrite:
        msg = f"{argument}={layer_added!r} is already in adata.layers; choose another name or pass overwrite=True."
        raise ValueError(msg)


def assemble(
    reader: MatrixReader,
    rows: NDArray[np.intp],
    edited: Iterable[tuple[slice, NDArray[np.float32]]],
    *,
    whole_layer: bool,
    keep_sparse: bool,
) -> NDArray[np.float32] | sparse.csr_matrix:
    """Put edited minibatches together.

    Parameters
    ----------
    reader
        The layer the cells come from.
    rows
        Positions of the edited cells, increasing.
    edited
        Minibatches: where among ``rows``, and values of shape ``[n_minibatch, n_vars]``.
    whole_layer
        Whether the cells that are not edited are wanted too, as they are.
    keep_sparse
        Whether to return a sparse matrix.

    Returns
    -------
    Matrix of shape ``[len(rows), n_vars]``, or of the layer's shape with ``whole_layer``.
    """
    if keep_sparse:
        matrix = sparse.vstack([sparse.csr_matrix(values) for _, values in edited], format="csr")
        if not whole_layer:
            return matrix
        others = np.setdiff1d(np.arange(reader.shape[0]), rows)
        matrix = sparse.vstack([matrix, reader.sparse(others)], format="csr")
        return matrix[np.argsort(np.concatenate([rows, others]))]
    if not whole_layer:
        matrix = np.empty((len(rows), reader.shape[1]), dtype=np.float32)
        rows = np.arange(len(rows))
    elif len(rows) == reader.shape[0]:
        matrix = np.empty(reader.shape, dtype=np.float32)
    else:
        matrix = reader(np.arange(reader.shape[0]))
    for where, values in edited:
        matrix[rows[where]] = values
    return matrix


def record_layer(adata: AnnData, layer: str, record: dict[str, Any]) -> None:
    """Write into ``adata.uns["neuronedit"][layer]`` how a layer came about.

    Parameters
    ----------
    adata
        AnnData that holds the layer.
    layer
        Name of the layer.
    record
        Strings, numbers and dictionaries of them, so that every AnnData writer can store it.
    """
    versions = {
        name: importlib.metadata.version(name) for name in ("scvi-neuronedit", "scvi-tools", "torch", "anndata")
    }
    records = dict(adata.uns.get(RECORD_KEY, {}))
    records[layer] = {"versions": versions, **record}
    adata.uns[RECORD_KEY] = records
