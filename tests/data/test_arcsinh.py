import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scvi_neuronedit.data import arcsinh, inverse_arcsinh

INTENSITIES = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-1e6, 1e6, width=32)
)


def cells(values, kinds=None) -> AnnData:
    var = pd.DataFrame(index=[f"m{i}" for i in range(np.shape(values)[1])])
    if kinds is not None:
        var["kind"] = kinds
    return AnnData(np.asarray(values, dtype=np.float32), var=var, layers={"raw": np.array(values, dtype=np.float32)})


@given(INTENSITIES, st.floats(0.1, 1000))
@settings(max_examples=100, deadline=None)
def test_the_inverse_gives_back_what_was_measured(values, cofactor):
    adata = cells(values)
    arcsinh(adata, cofactor)
    np.testing.assert_allclose(
        adata.layers["transformed"], np.arcsinh(values / np.float64(cofactor)), rtol=1e-6, atol=1e-30
    )
    np.testing.assert_array_equal(inverse_arcsinh(adata), values)
    del adata.layers["raw"]  # only the transformed values are left, in single precision
    np.testing.assert_allclose(inverse_arcsinh(adata), values, rtol=3e-6, atol=1e-6 * cofactor)


@given(INTENSITIES, st.floats(0.1, 1000), st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_a_changed_layer_is_put_on_the_raw_scale(values, cofactor, shift):
    adata = cells(values)
    arcsinh(adata, cofactor)
    adata.layers["corrected"] = adata.layers["transformed"] + np.float32(shift)
    expected = cofactor * np.sinh(adata.layers["corrected"].astype(np.float64))
    np.testing.assert_allclose(inverse_arcsinh(adata, "corrected"), expected, rtol=1e-6, atol=1e-30)


def test_one_cofactor_is_for_markers_only():
    adata = cells([[5, 5, 5, 5]], kinds=["marker", "scatter", "time", "other"])
    arcsinh(adata, 5)
    np.testing.assert_allclose(adata.layers["transformed"], [[np.arcsinh(1), 5, 5, 5]], rtol=1e-6)
    np.testing.assert_array_equal(adata.var["cofactor"], [5, np.nan, np.nan, np.nan])
    record = adata.uns["neuronedit"]["transformed"]
    assert record["layer"] == "raw"


def test_without_kinds_scatter_and_time_are_known_by_name():
    adata = cells([[5, 5, 5]])
    adata.var_names = ["CD3", "FSC-A", "Time"]
    arcsinh(adata, 5, layer=None)
    np.testing.assert_allclose(adata.layers["transformed"], [[np.arcsinh(1), 5, 5]], rtol=1e-6)


def test_a_mapping_gives_each_marker_its_own():
    adata = cells([[10, 10, 10]], kinds=["marker", "marker", "other"])
    for cofactors in ({"m0": 5, "m1": 10}, pd.Series({"m1": 10, "m0": 5})):
        arcsinh(adata, cofactors, overwrite=True)
        np.testing.assert_allclose(adata.layers["transformed"], [[np.arcsinh(2), np.arcsinh(1), 10]], rtol=1e-6)
    arcsinh(adata, {"m0": 5, "m1": 10, "m2": 2}, layer_added="all")
    assert adata.layers["all"][0, 2] == np.float32(np.arcsinh(5))
    inverse_arcsinh(adata, "all", layer_added="back")
    np.testing.assert_array_equal(adata.layers["back"], adata.layers["raw"])


@pytest.mark.parametrize(
    ("cofactor", "error", "message"),
    [
        (0, ValueError, "must be a positive number"),
        (float("nan"), ValueError, "must be a positive number"),
        ({"m0": 5}, ValueError, r"no number for the markers 'm1'"),
        ({"m0": 5, "m1": -1}, ValueError, "must be a positive number"),
        ({"m0": 5, "m1": 5, "m11": 5}, KeyError, r"'m11' is not in adata.var_names .*did you mean 'm1'"),
    ],
)
def test_bad_cofactors(cofactor, error, message):
    adata = cells([[1, 2]])
    with pytest.raises(error, match=message):
        arcsinh(adata, cofactor)
    assert list(adata.layers) == ["raw"]
    assert "cofactor" not in adata.var


def test_bad_layers():
    adata = cells([[1, 2]])
    with pytest.raises(KeyError, match="no column 'cofactor'"):
        inverse_arcsinh(adata, "raw")
    with pytest.raises(KeyError, match="layer 'rw' is not in adata.layers"):
        arcsinh(adata, layer="rw")
    with pytest.raises(ValueError, match="overwrite=True"):
        arcsinh(adata, layer_added="raw")
    arcsinh(adata)
    with pytest.raises(ValueError, match="overwrite=True"):
        inverse_arcsinh(adata, layer_added="raw")
