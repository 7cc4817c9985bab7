"""Reading the rows of a layer, whatever holds it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from anndata.abc import CSCDataset
from scipy import sparse
from scvi import settings

from scvi_neuronedit.data._names import listed, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

_ROWS_PER_BLOCK = 4096


class MatrixReader:
    """Rows of a layer as dense float32, in the order asked for.

    Reads numpy arrays, scipy sparse matrices and arrays, dask arrays, and the same of a backed AnnData, where the
    order of rows is kept too. Sparse columns (CSC) are converted once; those of a backed file are refused.

    Parameters
    ----------
    adata
        Where the layer is.
    layer
        Name of the layer; ``X`` if ``None``.
    owner
        What to call the AnnData in error messages.
    """

    def __init__(self, adata: AnnData, layer: str | None, owner: str = "adata") -> None:
        if layer is not None and layer not in adata.layers:
            raise KeyError(unknown_name("layer", layer, f"{owner}.layers", list(adata.layers)))
        self.name = f"{owner}.X" if layer is None else f"{owner}.layers[{layer!r}]"
        matrix = adata.X if layer is None else adata.layers[layer]
        if matrix is None:
            msg = f"{self.name} is empty; name the layer that holds the data."
            raise ValueError(msg)
        if isinstance(matrix, CSCDataset):
            msg = f"{self.name} is a backed CSC matrix, which cannot be read by rows; store it as CSR or load it."
            raise TypeError(msg)
        if sparse.issparse(matrix) and matrix.format != "csr":
            matrix = matrix.tocsr()
        self._matrix = matrix
        self.shape = matrix.shape
        self.features = adata.var_names

    @property
    def parts(self) -> list[MatrixReader]:
        """The reader of every modality: only this one."""
        return [self]

    @property
    def is_sparse(self) -> bool:
        """Whether the layer is stored sparse."""
        first = self._matrix[:1]
        return sparse.issparse(first.compute() if hasattr(first, "compute") else first)

    def __call__(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Read rows.

        Parameters
        ----------
        rows
            Positions, in any order.

        Returns
        -------
        New array of shape ``[len(rows), n_vars]``.
        """
        if isinstance(self._matrix, np.ndarray) or sparse.issparse(self._matrix):
            values = self._matrix[rows]
        else:  # on disk: only increasing positions can be read
            increasing, order = np.unique(rows, return_inverse=True)
            values = self._matrix[increasing][order]
        if hasattr(values, "compute"):
            values = values.compute()
        if sparse.issparse(values):
            values = values.toarray()
        return np.array(values, dtype=np.float32)

    def sparse(self, rows: NDArray[np.intp]) -> sparse.csr_matrix:
        """Read rows of a sparse layer without making them dense.

        Parameters
        ----------
        rows
            Positions, increasing.
        """
        values = self._matrix[rows]
        return sparse.csr_matrix(values.compute() if hasattr(values, "compute") else values)

    def blocks(self) -> Iterator[NDArray]:
        """All values that are stored, block by block (for sparse layers without their zeros)."""
        if sparse.issparse(self._matrix):
            yield self._matrix.data
            return
        for first in range(0, self.shape[0], _ROWS_PER_BLOCK):
            block = self._matrix[first : first + _ROWS_PER_BLOCK]
            block = block.compute() if hasattr(block, "compute") else block
            yield block.data if sparse.issparse(block) else np.asarray(block)


@dataclass(frozen=True)
class ValueSummary:
    """What kind of numbers a layer holds: its smallest value, and whether all are whole."""

    minimum: float
    is_integer: bool


def summarize_values(reader: MatrixReader) -> ValueSummary:
    """Look through a layer once.

    Parameters
    ----------
    reader
        The layer.

    Raises
    ------
    ValueError
        The layer holds NaN or infinite values.
    """
    minimum, is_integer = 0.0 if reader.is_sparse else np.inf, True
    for block in reader.blocks():
        if not block.size:
            continue
        if not (finite := np.isfinite(block)).all():
            # the stored values of a sparse matrix have no columns
            where = f", in the features {listed(reader.features[~finite.all(axis=0)])}" if block.ndim == 2 else ""
            msg = f"{reader.name} holds NaN or infinite values{where}."
            raise ValueError(msg)
        minimum = min(minimum, float(block.min()))
        is_integer = is_integer and bool((block == np.rint(block)).all())
    return ValueSummary(minimum, is_integer)


def check_likelihood(reader: MatrixReader, likelihood: str) -> float:
    """Check that the values of a layer fit a likelihood.

    Parameters
    ----------
    reader
        The layer.
    likelihood
        ``"normal"``, or a likelihood of counts.

    Returns
    -------
    The smallest value.
    """
    values = summarize_values(reader)
    msg = ""
    if likelihood == "normal":
        if values.is_integer and values.minimum >= 0:
            msg = (
                f"{reader.name} holds counts, but likelihood='normal' is for log-normalised or "
                "arcsinh-transformed data; pass likelihood='nb' or 'poisson', or transform the data."
            )
    elif values.minimum < 0:
        msg = f"likelihood={likelihood!r} is for counts, but {reader.name} holds negative values (minimum {values.minimum:g})."
        raise ValueError(msg)
    elif not values.is_integer:
        msg = f"likelihood={likelihood!r} is for counts, but {reader.name} holds values that are not whole numbers."
    if msg:
        warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
    return values.minimum


def match_features(adata: AnnData, var_names: Sequence[str]) -> NDArray[np.intp] | slice:
    """Find a model's features in an AnnData by name.

    Parameters
    ----------
    adata
        AnnData with these features in any order, and maybe others.
    var_names
        Names the model was trained on.

    Returns
    -------
    Positions of the names among ``adata.var_names``; the full slice where both are the same.
    """
    check_unique_features(adata)
    positions = adata.var_names.get_indexer(var_names)
    if (positions < 0).any():
        missing = [str(name) for name in np.asarray(var_names)[positions < 0]]
        msg = f"adata lacks {len(missing)} of the model's {len(var_names)} features: {listed(missing)}."
        raise ValueError(msg)
    if np.array_equal(positions, np.arange(adata.n_vars)):
        return slice(None)
    return positions


def check_unique_features(adata: AnnData, owner: str = "adata") -> None:
    """Refuse duplicated feature names.

    Parameters
    ----------
    adata
        AnnData to look at.
    owner
        What to call it in error messages.
    """
    if not adata.var_names.is_unique:
        duplicates = adata.var_names[adata.var_names.duplicated()].unique().tolist()
        msg = f"{owner}.var_names are not unique: {listed(duplicates)}; see AnnData.var_names_make_unique()."
        raise ValueError(msg)


def use_csr_matrix(adata: AnnData, layer: str | None) -> None:
    """Turn a sparse layer in memory into the CSR matrix that the loader of scvi-tools reads.

    It fails on sparse arrays, and reads columns (CSC) some forty times more slowly.

    Parameters
    ----------
    adata
        AnnData to change.
    layer
        Name of the layer; ``X`` if ``None``.
    """
    matrix = adata.X if layer is None else adata.layers[layer]
    if not sparse.issparse(matrix) or isinstance(matrix, sparse.csr_matrix):
        return
    if layer is None:
        adata.X = sparse.csr_matrix(matrix)
    else:
        adata.layers[layer] = sparse.csr_matrix(matrix)
