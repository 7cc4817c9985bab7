import anndata as ad
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse

from scvi_neuronedit.data import JoinedModalities, match_features

CELLS = list("abcd")
COUNTS = np.arange(12, dtype=np.float32).reshape(4, 3) % 5
LEVELS = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)


def of(values, names, cells=CELLS):
    return ad.AnnData(values, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=names))


@pytest.fixture
def mdata():
    rna = of(np.zeros((4, 3), np.float32), ["CD4", "CD8", "MS4A1"])
    rna.layers["counts"] = sparse.csr_matrix(COUNTS)
    return MuData({"prot": of(LEVELS, ["CD4", "CD19"]), "rna": rna, "atac": of(LEVELS, ["p1", "p2"])})


@pytest.fixture
def table(mdata):
    return JoinedModalities(mdata, {"rna": "counts", "prot": None})


def test_modalities_stand_side_by_side(table):
    rows = np.array([3, 0, 3])
    np.testing.assert_array_equal(table.reader(rows), np.hstack([COUNTS, LEVELS])[rows])
    np.testing.assert_array_equal(table.reader.sparse(np.array([1, 2])).toarray(), np.hstack([COUNTS, LEVELS])[1:3])
    assert table.var_names.tolist() == ["rna:CD4", "rna:CD8", "rna:MS4A1", "prot:CD4", "prot:CD19"]
    assert table.shape == (4, 5)
    assert table.reader.is_sparse
    assert table.obs_names.tolist() == CELLS


def test_features_are_found_by_modality_and_name(table):
    np.testing.assert_array_equal(match_features(table, ["prot:CD4", "rna:CD4"]), [3, 0])
    with pytest.raises(ValueError, match="adata lacks 1 of the model's 1 features: 'CD4'"):
        match_features(table, ["CD4"])


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix])
def test_a_layer_is_split_among_its_modalities(mdata, table, storage):
    values = np.hstack([COUNTS + 1, LEVELS - 2])
    before = mdata["rna"].layers["counts"].copy()
    table.layers["new"] = storage(values)
    rna, prot = mdata["rna"].layers["new"], mdata["prot"].layers["new"]
    np.testing.assert_array_equal(rna.toarray() if sparse.issparse(rna) else rna, values[:, :3])
    np.testing.assert_array_equal(prot, values[:, 3:])
    assert isinstance(prot, np.ndarray)
    assert sparse.issparse(rna) == (storage is sparse.csr_matrix)
    assert "new" not in mdata["atac"].layers
    assert "new" in table.layers
    assert "counts" in table.layers
    assert (mdata["rna"].layers["counts"] != before).nnz == 0
    values[:] = 0  # what was written is a copy
    assert (prot != 0).all()


@pytest.mark.parametrize(
    ("change", "layers", "error", "message"),
    [
        (lambda m: m, {"protein": None}, KeyError, r"modality 'protein' is not in mdata.mod .* did you mean 'prot'\?"),
        (lambda m: m, {"rna": "count"}, KeyError, r"layer 'count' is not in mdata\['rna'\].layers \('counts'\)"),
        (lambda m: m["rna"], {"rna": None}, TypeError, "a MuData with modalities 'rna' is needed, not .* AnnData"),
        (
            lambda m: MuData({"rna": m["rna"].copy(), "prot": m["prot"][:3].copy()}),
            {"prot": None},
            ValueError,
            r"mdata\['prot'\] holds other cells than mdata",
        ),
        (
            lambda m: MuData({"rna": m["rna"].copy(), "prot": m["prot"][::-1].copy()}),
            {"rna": "counts", "prot": None},
            ValueError,
            r"mdata\['prot'\] holds .* the same cells in another order",
        ),
        (
            lambda m: MuData({"prot": of(LEVELS, ["CD4", "CD4"])}),
            {"prot": None},
            ValueError,
            r"mdata\['prot'\].var_names are not unique: 'CD4'",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(mdata, change, layers, error, message):
    with pytest.raises(error, match=message):
        JoinedModalities(change(mdata), layers)
