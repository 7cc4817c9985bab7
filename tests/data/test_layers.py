import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from scvi_neuronedit.data import MatrixReader, assemble, check_layer_is_free, record_layer

VALUES = np.arange(20, dtype=np.float32).reshape(5, 4)
ROWS = np.array([1, 3, 4])


def edited():
    for first in (0, 2):
        where = slice(first, first + 2)
        yield where, -VALUES[ROWS[where]]


@pytest.mark.parametrize("storage", [np.array, sparse.csr_matrix])
@pytest.mark.parametrize("keep_sparse", [False, True])
def test_assemble(storage, keep_sparse):
    reader = MatrixReader(AnnData(storage(VALUES)), None)
    keep_sparse = keep_sparse and reader.is_sparse
    part = assemble(reader, ROWS, edited(), whole_layer=False, keep_sparse=keep_sparse)
    whole = assemble(reader, ROWS, edited(), whole_layer=True, keep_sparse=keep_sparse)
    assert sparse.issparse(whole) == sparse.issparse(part) == keep_sparse
    part, whole = (x.toarray() if keep_sparse else x for x in (part, whole))
    expected = VALUES.copy()
    expected[ROWS] *= -1
    np.testing.assert_array_equal(part, expected[ROWS])
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(reader(np.arange(5)), VALUES)


def test_assemble_of_all_rows():
    rows = np.arange(5)
    reader = MatrixReader(AnnData(VALUES), None)
    np.testing.assert_array_equal(
        assemble(reader, rows, [(slice(0, 5), -VALUES)], whole_layer=True, keep_sparse=False), -VALUES
    )


def test_layer_must_be_free():
    adata = AnnData(VALUES, layers={"a": VALUES})
    check_layer_is_free(adata, "b", overwrite=False)
    check_layer_is_free(adata, "a", overwrite=True)
    with pytest.raises(ValueError, match="layer_added='a' is already in adata.layers; .*overwrite=True"):
        check_layer_is_free(adata, "a", overwrite=False)
    for name in ("", "a/b"):
        with pytest.raises(
            ValueError, match=f"layer_added='{name}'; the name of a layer must not be empty or hold '/'"
        ):
            check_layer_is_free(adata, name, overwrite=False)
    with pytest.raises(ValueError, match="adata is a view"):
        check_layer_is_free(adata[:2], "b", overwrite=False)


def test_records_survive_a_file(tmp_path):
    adata = AnnData(VALUES)
    record_layer(adata, "a", {"method": "mean", "n": 3, "support": {"mean": 0.5}})
    record_layer(adata, "b", {"method": "percentile"})
    adata.write_h5ad(tmp_path / "x.h5ad")
    records = ad.read_h5ad(tmp_path / "x.h5ad").uns["neuronedit"]
    assert set(records) == {"a", "b"}
    assert (records["a"]["method"], records["a"]["n"], records["a"]["support"]["mean"]) == ("mean", 3, 0.5)
    assert set(records["a"]["versions"]) == {"scvi-neuronedit", "scvi-tools", "torch", "anndata"}
