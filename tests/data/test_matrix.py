import anndata as ad
import dask.array as da
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from scvi_neuronedit.data import MatrixReader, match_features, summarize_values, use_csr_matrix

VALUES = np.random.default_rng(0).poisson(0.7, (12, 5)).astype(np.float32)
FORMATS = {
    "ndarray": np.array,
    "float64": lambda x: x.astype(np.float64),
    "int": lambda x: x.astype(np.int64),
    "csr_matrix": sparse.csr_matrix,
    "csc_matrix": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "dask": lambda x: da.from_array(x, chunks=(4, 5)),
    "dask csr": lambda x: da.from_array(x, chunks=(4, 5)).map_blocks(sparse.csr_matrix),
}
ROWS = np.array([7, 0, 11, 3])


@pytest.fixture(params=FORMATS)
def adata_of_format(request):
    matrix = FORMATS[request.param](VALUES)
    return AnnData(matrix, layers={"again": matrix})


@pytest.mark.parametrize("layer", [None, "again"])
def test_rows_come_in_the_order_asked_for(adata_of_format, layer):
    reader = MatrixReader(adata_of_format, layer)
    rows = reader(ROWS)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, VALUES[ROWS])
    rows[:] = -1  # a new array
    np.testing.assert_array_equal(reader(ROWS), VALUES[ROWS])


def test_rows_of_a_view(adata_of_format):
    view = adata_of_format[::2, 1:]
    np.testing.assert_array_equal(MatrixReader(view, None)(np.array([3, 1])), VALUES[::2, 1:][[3, 1]])


def test_values_are_summarized(adata_of_format):
    values = summarize_values(MatrixReader(adata_of_format, None))
    assert values.minimum == VALUES.min() == 0
    assert values.is_integer


@pytest.mark.parametrize("storage", [np.array, sparse.csr_matrix])
@pytest.mark.parametrize("rows", [ROWS, np.array([2, 2, 1])])
def test_rows_of_a_backed_file_come_in_the_order_asked_for(tmp_path, storage, rows):
    AnnData(storage(VALUES)).write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    np.testing.assert_array_equal(MatrixReader(backed, None)(rows), VALUES[rows])
    assert MatrixReader(backed, None).is_sparse == (storage is sparse.csr_matrix)
    assert summarize_values(MatrixReader(backed, None)).is_integer


def test_backed_csc_is_refused(tmp_path):
    AnnData(sparse.csc_matrix(VALUES)).write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(TypeError, match=r"adata\.X is a backed CSC matrix"):
        MatrixReader(ad.read_h5ad(tmp_path / "x.h5ad", backed="r"), None)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("storage", [np.array, sparse.csr_matrix])
def test_values_that_are_not_finite_are_refused(bad, storage):
    values = VALUES.copy()
    values[2, 3] = bad
    where = r", in the features '3'\." if storage is np.array else r"\."
    with pytest.raises(ValueError, match=r"adata\.X holds NaN or infinite values" + where):
        summarize_values(MatrixReader(AnnData(storage(values)), None))


@pytest.mark.parametrize("storage", [np.array, sparse.csr_matrix])
def test_fractions_and_negative_values_are_seen(storage):
    values = VALUES.copy()
    values[0, 0], values[1, 1] = -2.5, 0.5
    summary = summarize_values(MatrixReader(AnnData(storage(values)), None))
    assert (summary.minimum, summary.is_integer) == (-2.5, False)


def test_smallest_value_of_a_sparse_layer_counts_its_zeros():
    values = np.array([[2.0, 0.0], [3.0, 4.0]])
    assert summarize_values(MatrixReader(AnnData(sparse.csr_matrix(values)), None)).minimum == 0


def test_unknown_layer():
    with pytest.raises(KeyError, match="did you mean 'counts'"):
        MatrixReader(AnnData(VALUES, layers={"counts": VALUES}), "count")


def test_empty_x():
    with pytest.raises(ValueError, match=r"adata\.X is empty; name the layer"):
        MatrixReader(AnnData(layers={"counts": VALUES}), None)


def of_features(names):
    adata = AnnData(np.zeros((1, len(names))))
    adata.var_names = names
    return adata


def test_features_are_found_by_name():
    assert match_features(of_features(["a", "b"]), ["a", "b"]) == slice(None)
    np.testing.assert_array_equal(match_features(of_features(["x", "b", "a"]), ["a", "b"]), [2, 1])
    np.testing.assert_array_equal(match_features(of_features(["a", "b", "c"]), ["a", "b"]), [0, 1])


def test_missing_features_are_named():
    with pytest.raises(ValueError, match="adata lacks 2 of the model's 3 features: 'b', 'd'"):
        match_features(of_features(["a", "c"]), ["a", "b", "d"])
    with pytest.raises(ValueError, match="lacks 3 of the model's 3 features"):
        match_features(of_features(["x"]), ["a", "b", "d"])


def test_duplicated_features_are_refused():
    with pytest.raises(ValueError, match="not unique: 'a'; see AnnData.var_names_make_unique"):
        match_features(of_features(["a", "b", "a"]), ["b"])


@pytest.mark.parametrize("layer", [None, "again"])
def test_use_csr_matrix(adata_of_format, layer):
    before = adata_of_format.X if layer is None else adata_of_format.layers[layer]
    use_csr_matrix(adata_of_format, layer)
    after = adata_of_format.X if layer is None else adata_of_format.layers[layer]
    if sparse.issparse(before):
        assert isinstance(after, sparse.csr_matrix)
        np.testing.assert_array_equal(after.toarray(), VALUES)
    else:
        assert after is before
