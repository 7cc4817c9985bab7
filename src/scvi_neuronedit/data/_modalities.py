"""A MuData as one table: its modalities side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scipy import sparse

from scvi_neuronedit.data._matrix import MatrixReader, check_unique_features
from scvi_neuronedit.data._names import listed, unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class JoinedModalities:
    """Modalities of a MuData side by side, with what an AnnData offers to readers and writers of layers.

    Features are named ``"rna:CD4"``, ``"prot:CD4"``, as names are often shared. Cells, ``obs`` and ``uns`` are the MuData's;
    a layer that is written is split among the modalities.

    Parameters
    ----------
    mdata
        The MuData.
    layers
        Layer that holds the data, ``X`` if ``None``, by name of modality.

    Raises
    ------
    TypeError
        ``mdata`` is not a MuData.
    KeyError
        A modality or layer is missing.
    ValueError
        A modality holds other cells than the MuData, or the same in another order; feature names are not unique.
    """

    def __init__(self, mdata: MuData, layers: Mapping[str, str | None]) -> None:
        if not isinstance(mdata, MuData):
            msg = f"a MuData with modalities {listed(layers)} is needed, not an object of type {type(mdata).__name__}."
            raise TypeError(msg)
        for name in layers:
            if name not in mdata.mod:
                raise KeyError(unknown_name("modality", name, "mdata.mod", list(mdata.mod)))
            if not mdata.mod[name].obs_names.equals(mdata.obs_names):
                msg = (
                    f"mdata[{name!r}] holds other cells than mdata, or the same cells in another order, but every cell must "
                    "have all modalities; take the cells they share in one order, such as mudata.MuData({name: "
                    "adata[shared].copy() for name, adata in mdata.mod.items()})."
                )
                raise ValueError(msg)
        self.mdata = mdata
        self.modalities = {name: mdata.mod[name] for name in layers}
        for name, adata in self.modalities.items():
            check_unique_features(adata, f"mdata[{name!r}]")
        self.var_names = pd.Index(
            [f"{name}:{var}" for name, adata in self.modalities.items() for var in adata.var_names]
        )
        self.reader = JoinedReader(
            [MatrixReader(adata, layers[name], f"mdata[{name!r}]") for name, adata in self.modalities.items()]
        )

    @property
    def obs(self) -> pd.DataFrame:
        """What is known of each cell."""
        return self.mdata.obs

    @property
    def obs_names(self) -> pd.Index:
        """Names of the cells."""
        return self.mdata.obs_names

    @property
    def uns(self) -> Any:
        """What else is known."""
        return self.mdata.uns

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.mdata.n_obs

    @property
    def n_vars(self) -> int:
        """Number of features."""
        return self.reader.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of cells and features."""
        return self.n_obs, self.n_vars

    @property
    def is_view(self) -> bool:
        """Whether what is written would be written to a copy."""
        return self.mdata.is_view or any(adata.is_view for adata in self.modalities.values())

    @property
    def layers(self) -> _JoinedLayers:
        """Layers that any modality has; one that is set is split among them."""
        return _JoinedLayers(self)


class JoinedReader:
    """Rows of the layers of several modalities side by side; like :class:`~scvi_neuronedit.data.MatrixReader`.

    Parameters
    ----------
    readers
        A reader for each modality.
    """

    def __init__(self, readers: list[MatrixReader]) -> None:
        self.parts = readers
        self.shape = readers[0].shape[0], sum(reader.shape[1] for reader in readers)

    @property
    def is_sparse(self) -> bool:
        """Whether any of the layers is stored sparse."""
        return any(reader.is_sparse for reader in self.parts)

    def __call__(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Read rows, in any order.

        Parameters
        ----------
        rows
            Positions.
        """
        return np.concatenate([reader(rows) for reader in self.parts], axis=1)

    def sparse(self, rows: NDArray[np.intp]) -> sparse.csr_matrix:
        """Read rows as a sparse matrix.

        Parameters
        ----------
        rows
            Positions, increasing.
        """
        return sparse.hstack([reader.sparse(rows) for reader in self.parts], format="csr")


class _JoinedLayers:
    def __init__(self, table: JoinedModalities) -> None:
        self._table = table

    def __contains__(self, layer: str) -> bool:
        return any(layer in adata.layers for adata in self._table.modalities.values())

    def __setitem__(self, layer: str, matrix: NDArray | sparse.csr_matrix) -> None:
        first = 0
        for adata, reader in zip(self._table.modalities.values(), self._table.reader.parts, strict=True):
            values = matrix[:, first : first + adata.n_vars]
            if sparse.issparse(values) and not reader.is_sparse:
                values = values.toarray()
            adata.layers[layer] = values.copy()
            first += adata.n_vars
