import numpy as np
import pooch
import pytest
from anndata import AnnData

from scvi_neuronedit.datasets import norman_2019


def test_a_local_file_is_read(tmp_path):
    adata = AnnData(np.ones((3, 2), dtype=np.float32))
    adata.write_h5ad(tmp_path / "norman.h5ad")
    np.testing.assert_array_equal(norman_2019(tmp_path / "norman.h5ad").X, adata.X)


def test_a_download_is_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path)
    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, **kwargs: lambda url, path, dog: _write(path))
    with pytest.raises(ValueError, match="hash of downloaded file .* does not match the known hash"):
        norman_2019()


def _write(path):
    with open(path, "wb") as file:
        file.write(b"something else")
