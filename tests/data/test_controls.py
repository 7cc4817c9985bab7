import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scvi_neuronedit.data import check_reference, find_controls


def cells(*groups):
    """An AnnData from (batch, sample, number of cells)."""
    obs = pd.DataFrame(
        [(batch, sample) for batch, sample, n in groups for _ in range(n)], columns=["batch", "sample"]
    ).astype("category")
    obs.index = obs.index.astype(str)
    return ad.AnnData(np.zeros((len(obs), 2), dtype=np.float32), obs)


CHAIN = cells(
    ("a", "x", 30), ("b", "x", 30), ("b", "y", 25), ("c", "y", 30), ("c", "z", 40), ("d", "z", 20), ("d", "own", 99)
)
XYZ = {"sample": ["x", "y", "z"]}


def test_controls_are_named_by_their_values():
    found = find_controls(CHAIN, XYZ, batch_key="batch")
    assert found.usable.columns.tolist() == ["x", "y", "z"]
    assert found.usable.to_numpy().astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert (found.control == "").sum() == 99
    np.testing.assert_array_equal(found.cells("b", ["y"]), np.arange(60, 85))
    np.testing.assert_array_equal(found.cells("pooled", ["y"]), np.arange(60, 115))


def test_combinations_of_columns_are_controls_of_their_own():
    adata = cells(("a", "x", 60), ("b", "x", 60))
    adata.obs["type"] = np.tile(["B", "T"], 60)
    found = find_controls(adata, {"sample": "x", "type": ["B", "T"]}, batch_key="batch")
    assert found.usable.columns.tolist() == ["x, B", "x, T"]


def test_masks_and_names_are_one_control():
    mask = (CHAIN.obs["sample"] == "x").to_numpy()
    for selection in (mask, CHAIN.obs_names[mask]):
        found = find_controls(CHAIN, selection, batch_key="batch")
        assert found.usable.columns.tolist() == ["control"]
        np.testing.assert_array_equal(found.control == "control", mask)


def test_shortest_paths():
    found = find_controls(CHAIN, XYZ, batch_key="batch")
    assert found.paths("a") == {"b": ["b", "a"], "c": ["c", "b", "a"], "d": ["d", "c", "b", "a"]}
    assert found.paths("c") == {"a": ["a", "b", "c"], "b": ["b", "c"], "d": ["d", "c"]}
    assert found.shared("b", "c") == ["y"]


def test_pools_are_of_controls_that_all_batches_have():
    with pytest.raises(ValueError, match="'pooled' needs a control that every batch has.*a: x; b: x, y; c: y, z"):
        find_controls(CHAIN, XYZ, batch_key="batch").paths("pooled")
    both = cells(("a", "x", 30), ("b", "x", 30), ("b", "y", 25), ("c", "x", 30), ("c", "y", 40))
    found = find_controls(both, {"sample": ["x", "y"]}, batch_key="batch")
    assert found.paths("pooled") == {batch: [batch, "pooled"] for batch in "abc"}
    assert found.shared("b", "pooled") == ["x"]


def test_the_shorter_of_two_ways():
    ring = cells(*((batch, sample, 20) for batch, sample in ("ax", "bx", "by", "cy", "cz", "dz", "dw", "aw")))
    paths = find_controls(ring, {"sample": list("xyzw")}, batch_key="batch").paths("a")
    assert (paths["b"], paths["d"]) == (["b", "a"], ["d", "a"])
    assert paths["c"] in (["c", "b", "a"], ["c", "d", "a"])


def test_batches_that_cannot_be_reached_are_named():
    adata = cells(("a", "x", 30), ("b", "x", 30), ("c", "own", 30), ("d", "own2", 30))
    found = find_controls(adata, {"sample": "x"}, batch_key="batch")
    # crosstab keeps every batch, those without any control included
    with pytest.raises(ValueError, match="reference 'a' cannot be reached from 'c', 'd': .*b: x; c: none"):
        found.paths("a")


def test_too_few_cells():
    few = cells(("a", "x", 30), ("b", "x", 19))
    with pytest.raises(ValueError, match="batch 'b' has 19 cells of control 'x'; at least 20 are needed"):
        find_controls(few, {"sample": "x"}, batch_key="batch")
    others = cells(("a", "x", 30), ("b", "x", 19), ("a", "y", 30), ("b", "y", 30))
    with pytest.warns(UserWarning, match="batch 'b' has 19 cells of control 'x', fewer than 20; it is left out there"):
        found = find_controls(others, {"sample": ["x", "y"]}, batch_key="batch")
    assert found.shared("a", "b") == ["y"]


@pytest.mark.parametrize(
    ("adata", "selection", "error", "message"),
    [
        (CHAIN, {"sample": ["x", "own"]}, ValueError, "control 'own' is in one batch only .*d"),
        (cells(("a", "x", 50)), {"sample": "x"}, ValueError, "holds one batch only"),
        (cells(("a", "x", 50), ("pooled", "x", 50)), {"sample": "x"}, ValueError, "a batch named 'pooled'.*rename it"),
        (CHAIN, {"sampel": "x"}, KeyError, "did you mean 'sample'"),
        (CHAIN, {"sample": "xx"}, ValueError, "controls 'xx' is not in"),
    ],
)
def test_bad_controls(adata, selection, error, message):
    with pytest.raises(error, match=message):
        find_controls(adata, selection, batch_key="batch")


def test_references():
    batch = np.array(["a", "b", "b", "c"])
    assert check_reference("c", batch, "batch") == "c"
    assert check_reference("largest", batch, "batch") == "b"
    assert check_reference("pooled", batch, "batch") == "pooled"
    assert check_reference("pooled", np.array(["pooled", "x"]), "batch") == "pooled"
    with pytest.raises(ValueError, match="reference 'd' is not in .*'largest', 'pooled'"):
        check_reference("d", batch, "batch")
