"""Loader of the combinatorial CRISPR activation screen of Norman et al. (2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import pooch

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

_URL = "https://zenodo.org/records/13350497/files/NormanWeissman2019_filtered.h5ad?download=1"
_HASH = "md5:c870e6967d91c017d9da827bab183cd6"


def norman_2019(path: str | PathLike | None = None) -> AnnData:
    """Counts of K562 cells under single and double CRISPR activations (Norman et al., Science 2019; GSE133344).

    As harmonised by scPerturb (Peidli et al., 2024; Zenodo record 13350497, 699 MB).

    Parameters
    ----------
    path
        The file, if it is already there. If ``None`` it is downloaded once into the user's cache folder, and its checksum
        is verified.

    Returns
    -------
    AnnData with counts in ``X`` and the labels of the perturbations in ``obs["perturbation"]``.
    """
    if path is None:
        path = pooch.retrieve(
            _URL, _HASH, fname="NormanWeissman2019_filtered.h5ad", path=pooch.os_cache("scvi-neuronedit")
        )
    return anndata.read_h5ad(path)
