"""Two modalities of the same cells: one joint code, a head and a likelihood for each, layers in the right modality."""

import anndata as ad
import mudata
import numpy as np
import pytest
import scanpy as sc
import scvi
from mudata import MuData
from scipy import sparse

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.datasets import simulate_cite_seq

KEYS = {"condition_key": "condition", "labels_key": "cell_type"}
MODALITIES = {"rna_layer": "rna", "protein_layer": "prot"}
LIKELIHOOD = {"rna": "nb", "prot": "normal"}
QUERY = {"condition": "ctrl", "cell_type": "type_4"}
EDIT = {"method": "group", "layers": "code"}

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:mudata", "ignore:.*var_names.*:UserWarning:mudata")


def dense(x):
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def make(mdata, likelihood=LIKELIHOOD, **setup):
    NeuronEdit.setup_mudata(mdata, **{**KEYS, "modalities": MODALITIES, **setup})
    return NeuronEdit(mdata, n_latent=8, hidden=(32,), likelihood=likelihood)


def train(mdata, max_epochs=1, **kwargs):
    scvi.settings.seed = 0
    model = make(mdata, **kwargs)
    model.train(max_epochs=max_epochs, batch_size=32, accelerator="cpu", enable_progress_bar=False)
    return model


@pytest.fixture(scope="session")
def cite():
    """CITE-seq without the stimulated cells of type_4."""
    mdata = simulate_cite_seq(900, 120, 20, n_types=4, type_specificity=0.3, random_state=1)
    held_out = (mdata.obs["cell_type"] == "type_4") & (mdata.obs["condition"] == "stim")
    return mdata[~held_out.to_numpy()].copy()


@pytest.fixture
def mdata(cite):
    return cite.copy()


@pytest.fixture(scope="session")
def joint(cite):
    """Trained on both modalities. Its MuData must not be written to."""
    return train(cite.copy(), max_epochs=60)


@pytest.fixture(scope="session")
def edit(joint):
    return joint.learn_edit("ctrl", "stim", **EDIT)


# the prediction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "errors"), [("code", {"rna": 0.65, "prot": 0.65}), (("code", "output"), {"rna": 0.65, "prot": 0.2})]
)
def test_both_modalities_of_an_unseen_type_are_predicted(joint, mdata, layers, errors):
    edit = joint.learn_edit("ctrl", "stim", "group", layers=layers)
    joint.apply_edit(edit, mdata, QUERY, layer_added="predicted")
    query = ((mdata.obs["cell_type"] == "type_4") & (mdata.obs["condition"] == "ctrl")).to_numpy()
    for name, adata in mdata.mod.items():
        assert adata.layers["predicted"].shape == adata.shape
        before, after = dense(adata.X), dense(adata.layers["predicted"])
        np.testing.assert_array_equal(after[~query], before[~query])
        truth = (adata.layers["mean_stim"] - adata.layers["mean_ctrl"])[query].mean(axis=0)
        predicted = (after - before)[query].mean(axis=0)
        assert np.corrcoef(truth, predicted)[0, 1] > 0.65, name
        assert ((predicted - truth) ** 2).mean() < errors[name] * (truth**2).mean(), name


def test_each_modality_stays_what_it_is(joint, edit, mdata):
    joint.apply_edit(edit, mdata, QUERY, layer_added="predicted")
    rna, prot = mdata["rna"].layers["predicted"], mdata["prot"].layers["predicted"]
    assert sparse.issparse(rna)
    assert (rna.data == np.rint(rna.data)).all()
    assert rna.data.min() >= 0
    assert isinstance(prot, np.ndarray)
    assert prot.min() < 0  # as the data
    # a protein keeps what the network does not explain of it
    query = ((mdata.obs["cell_type"] == "type_4") & (mdata.obs["condition"] == "ctrl")).to_numpy()
    smooth = joint.apply_edit(edit, mdata, QUERY, keep_residual=False)[:, 120:]
    unedited = joint.get_normalized_expression(mdata, np.flatnonzero(query), return_numpy=True)[:, 120:]
    expected = mdata["prot"].X[query] + smooth - unedited
    np.testing.assert_allclose(prot[query], expected, rtol=1e-4, atol=1e-4)


def test_layers_come_with_a_record_and_support(joint, edit, mdata, tmp_path):
    joint.apply_edit(edit, mdata, QUERY, layer_added="predicted")
    mdata.update()
    mdata.write_h5mu(tmp_path / "x.h5mu")
    mdata = mudata.read_h5mu(tmp_path / "x.h5mu")
    record = mdata.uns["neuronedit"]["predicted"]
    assert record["likelihood"] == "rna: nb, prot: normal"
    assert record["layer"] == "rna: X, prot: X"
    query = ((mdata.obs["cell_type"] == "type_4") & (mdata.obs["condition"] == "ctrl")).to_numpy()
    assert record["n_query"] == query.sum()
    np.testing.assert_array_equal(mdata.obs["predicted_support"].notna(), query)
    assert "predicted" in mdata["rna"].layers
    assert "predicted" in mdata["prot"].layers


def test_an_edit_of_one_modality_is_seen_in_the_other(joint, edit, mdata):
    """The code is joint: what the RNA of a cell is decides on its proteins."""
    other = mdata.copy()
    other["rna"].X = other["rna"].X[::-1].copy()
    expression = [joint.get_normalized_expression(m, return_numpy=True)[:, 120:] for m in (mdata, other)]
    assert np.abs(expression[0] - expression[1]).mean() > 0.05


def test_std_layers_effects_and_several_networks(mdata):
    scvi.settings.seed = 0
    NeuronEdit.setup_mudata(mdata, **KEYS, modalities=MODALITIES)
    model = NeuronEdit(mdata, n_latent=4, hidden=(16,), likelihood=LIKELIHOOD, n_networks=2)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert model.get_activations(layer="code/2").shape == (mdata.n_obs, 4)
    edit = model.learn_edit("ctrl", "stim", "mean")
    model.apply_edit(edit, query=QUERY, layer_added="predicted", std_layer_added="std", n_bootstrap=2)
    assert mdata["rna"].layers["std"].shape == (mdata.n_obs, 120)
    assert mdata["prot"].layers["std"].max() > 0
    effect = model.get_edit_effect(edit, QUERY, n_bootstrap=2)
    assert effect.index[[0, -1]].tolist() == ["rna:gene_1", f"prot:{mdata['prot'].var_names[-1]}"]
    assert np.isfinite(effect["change"]).all()


@pytest.mark.parametrize("method", ["auto", ("mean", "percentile")])
def test_log_normalised_rna_with_protein_is_edited_at_the_output(mdata, method):
    sc.pp.normalize_total(mdata["rna"], target_sum=1e4)
    sc.pp.log1p(mdata["rna"])
    model = train(mdata, likelihood="normal")
    layers = None if method == "auto" else ("code", "output")
    model.predict_condition("ctrl", "stim", QUERY, method=method, layers=layers)
    rna, prot = mdata["rna"].layers["predicted"], mdata["prot"].layers["predicted"]
    assert rna.min() >= 0  # not negative, as the data; the proteins are
    assert prot.min() < 0


def test_the_output_of_levels_is_edited_beside_counts(joint, mdata):
    """On the cells it was learnt on, a mean shift of the expression gives the target's mean."""
    edit = joint.learn_edit("ctrl", "stim", "mean", layers="output", match_labels=False)
    edited = joint.apply_edit(edit, mdata, "ctrl")
    target = mdata["prot"].X[(mdata.obs["condition"] == "stim").to_numpy()]
    np.testing.assert_allclose(edited[:, 120:].mean(axis=0), target.mean(axis=0), atol=1e-4)
    np.testing.assert_array_equal(edited[:, :120], dense(mdata["rna"].X)[(mdata.obs["condition"] == "ctrl").to_numpy()])


# other MuData --------------------------------------------------------------------------------------------------------


def test_features_are_matched_by_name_in_each_modality(joint, edit, mdata):
    expected = joint.apply_edit(edit, mdata, QUERY)
    rna = mdata["rna"][:, ::-1].copy()
    extra = ad.AnnData(np.full((mdata.n_obs, 1), 7, np.float32), obs=mdata["prot"].obs)
    extra.var_names = ["isotype"]
    prot = ad.concat([extra, mdata["prot"]], axis=1, merge="first")
    other = MuData({"atac": extra.copy(), "prot": prot, "rna": rna})
    other.obs[["condition", "cell_type"]] = mdata.obs[["condition", "cell_type"]]
    edited = joint.apply_edit(edit, other, QUERY)
    np.testing.assert_allclose(edited[:, 121:], expected[:, 120:], rtol=1e-4, atol=1e-4)
    assert (edited[:, 120] == 7).all()
    # counts are drawn at other positions: their sums agree
    assert edited[:, :120].sum() == pytest.approx(expected[:, :120].sum(), rel=0.02)
    np.testing.assert_allclose(
        joint.get_latent_representation(other), joint.get_latent_representation(mdata), rtol=1e-3, atol=1e-4
    )


def test_expression_of_both_modalities(joint, mdata):
    proteins = [f"prot:{name}" for name in mdata["prot"].var_names]
    expression = joint.get_normalized_expression(mdata)
    assert expression.columns.tolist() == [*(f"rna:gene_{i}" for i in range(1, 121)), *proteins]
    np.testing.assert_allclose(expression.iloc[:, :120].sum(axis=1), 1, rtol=1e-4)
    scaled = joint.get_normalized_expression(mdata, gene_list=[proteins[2], "rna:gene_7"], library_size=100)
    np.testing.assert_allclose(scaled["rna:gene_7"], 100 * expression["rna:gene_7"], rtol=1e-4)
    np.testing.assert_allclose(scaled[proteins[2]], expression[proteins[2]], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="gene_list entry 'gene_7' is not in the model's features"):
        joint.get_normalized_expression(mdata, gene_list=["gene_7"])


def test_one_modality_is_the_same_as_its_anndata(mdata):
    adata = mdata["prot"].copy()
    adata.obs = mdata.obs.copy()
    single = train(mdata, likelihood="normal", modalities={"protein_layer": "prot"})
    scvi.settings.seed = 0
    NeuronEdit.setup_anndata(adata, **KEYS)
    alone = NeuronEdit(adata, n_latent=8, hidden=(32,))
    alone.train(max_epochs=1, batch_size=32, accelerator="cpu", enable_progress_bar=False)
    np.testing.assert_array_equal(single.get_latent_representation(), alone.get_latent_representation())
    for model in (single, alone):
        model.predict_condition("ctrl", "stim", QUERY, method="neighbor")
    np.testing.assert_array_equal(mdata["prot"].layers["predicted"], adata.layers["predicted"])
    assert "predicted" not in mdata["rna"].layers


def test_protein_counts_have_a_library_of_their_own(mdata):
    mdata["prot"].layers["counts"] = sparse.csc_matrix(np.rint(np.exp(mdata["prot"].X)))
    model = train(mdata, likelihood="nb", protein_layer="counts")
    assert model.summary_stats["n_X_2"] == 20
    expected = model.get_normalized_expression(library_size="latent")
    for name, layer in (("rna", None), ("prot", "counts")):
        adata = mdata[name]
        total = np.asarray((adata.X if layer is None else adata.layers[layer]).sum(axis=1)).ravel()
        mine = expected.loc[:, expected.columns.str.startswith(name)]
        np.testing.assert_allclose(mine.sum(axis=1), np.maximum(total, 1), rtol=1e-3)
    model.predict_condition("ctrl", "stim", QUERY, method="mean")
    assert sparse.issparse(mdata["prot"].layers["predicted"])


# batches -------------------------------------------------------------------------------------------------------------


def test_a_batch_effect_on_both_modalities_is_removed(mdata, rng):
    batch = rng.integers(0, 2, mdata.n_obs)
    mdata.obs["batch"] = np.array(["a", "b"])[batch]
    shift = rng.normal(0, 1, 20) * batch[:, None]
    mdata["prot"].X = (mdata["prot"].X + shift).astype(np.float32)
    clean = dense(mdata["rna"].X)
    mdata["rna"].X = sparse.csr_matrix(clean)
    model = train(mdata, max_epochs=20, batch_key="batch")
    model.correct_batch("a", {"condition": "ctrl"})
    corrected = mdata["prot"].layers["corrected"]
    np.testing.assert_array_equal(corrected[batch == 0], mdata["prot"].X[batch == 0])
    stimulated = (mdata.obs["condition"] == "stim").to_numpy()  # not the controls

    def error(values):
        means = [values[stimulated & (batch == i)].mean(axis=0) for i in (0, 1)]
        return np.abs(means[1] - means[0]).mean()

    assert error(corrected) < 0.5 * error(mdata["prot"].X)
    assert mdata["rna"].layers["corrected"].shape == mdata["rna"].shape
    assert mdata.uns["neuronedit"]["corrected"]["reference"] == "a"
    test = mdata.uns["neuronedit"]["corrected"]["control_test"]
    assert set(test["feature"].str.partition(":")[0]) == {"rna", "prot"}


# saving --------------------------------------------------------------------------------------------------------------


def test_save_and_load(joint, edit, mdata, tmp_path):
    expected = joint.apply_edit(edit, mdata, QUERY)
    joint.save(tmp_path / "model", save_anndata=True)
    for adata in (None, mdata, False):
        again = NeuronEdit.load(tmp_path / "model", adata=adata)
        assert again.fingerprint == joint.fingerprint
        np.testing.assert_array_equal(again.apply_edit(edit, mdata, QUERY), expected)
    with pytest.raises(ValueError, match="loaded without data"):
        again.learn_edit("ctrl", "stim")


# bad input -----------------------------------------------------------------------------------------------------------


def _without_values(mdata):
    mdata["prot"].X[3, 2] = np.nan


def _column_of_a_modality(mdata):
    mdata["rna"].obs["donor"] = "d1"


@pytest.mark.parametrize(
    ("change", "setup", "error", "message"),
    [
        (None, {"modalities": None}, ValueError, r"modalities=None; name the modalities of mdata \('rna', 'prot'\)"),
        (None, {"modalities": {"rna_layer": "gex"}}, KeyError, "modality 'gex' is not in mdata.mod"),
        (None, {"modalities": {"rna_layer": "rna", "protein_layer": "rna"}}, ValueError, "names one modality twice"),
        (
            None,
            {"modalities": {"rna_layer": "rna", "batch_key": "rna"}},
            ValueError,
            "modalities entry 'batch_key' .* Columns are always taken from mdata.obs",
        ),
        (
            None,
            {"modalities": {"rna_layer": "rna"}, "protein_layer": "dsb"},
            ValueError,
            "protein_layer='dsb', but modalities does not say of which modality",
        ),
        (None, {"protein_layer": "dsb"}, KeyError, r"layer 'dsb' is not in mdata\['prot'\].layers"),
        (
            None,
            {"condition_key": "conditon"},
            KeyError,
            r"condition_key 'conditon' is not in mdata.obs .* 'condition'\?",
        ),
        (
            _column_of_a_modality,
            {"batch_key": "donor"},
            KeyError,
            r"column 'donor' is in mdata\['rna'\].obs, not in mdata.obs; copy it",
        ),
        (_without_values, {}, ValueError, r"mdata\['prot'\].X holds NaN"),
        (None, {"rna_layers": "counts"}, TypeError, r"argument 'rna_layers' is not in setup_mudata .* 'rna_layer'\?"),
    ],
)
def test_what_cannot_be_registered_is_refused(mdata, change, setup, error, message):
    if change is not None:
        change(mdata)
    with pytest.raises(error, match=message):
        make(mdata, **setup)
    assert "_scvi_uuid" not in mdata.uns


def test_views_and_other_kinds_of_data_are_refused(joint, mdata, adata):
    with pytest.raises(ValueError, match=r"mdata is a view of another MuData; pass mdata.copy\(\)"):
        make(mdata[:200])
    with pytest.raises(ValueError, match="a modality of mdata is a view"):
        make(MuData({"rna": mdata["rna"][:200], "prot": mdata["prot"][:200]}), condition_key=None, labels_key=None)
    with pytest.raises(TypeError, match="mdata is of type AnnData, not a MuData; see setup_anndata"):
        make(adata)
    with pytest.raises(TypeError, match="adata is a MuData; register it with setup_mudata"):
        NeuronEdit.setup_anndata(mdata)
    with pytest.raises(TypeError, match="a MuData with modalities 'rna', 'prot' is needed, not .* AnnData"):
        joint.get_latent_representation(adata)


def test_a_model_of_an_anndata_refuses_a_mudata(model, mdata):
    with pytest.raises(TypeError, match="adata is a MuData, but the model is one of an AnnData"):
        model.get_latent_representation(mdata)


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ({"rna": "nb"}, "likelihood names none for modality 'prot'"),
        ({"rna": "nb", "protein": "normal"}, r"likelihood for 'protein' is not in the modalities .* 'prot'\?"),
        ({"rna": "zinb", "prot": "normal"}, r"likelihood 'zinb' is not in the likelihoods .* 'nb'\?"),
        ("nb", r"likelihood='nb' is for counts, but mdata\['prot'\].X holds negative values"),
    ],
)
def test_likelihoods_must_fit(mdata, likelihood, message):
    with pytest.raises(ValueError, match=message):
        make(mdata, likelihood)


def test_a_likelihood_for_each_modality_needs_modalities(adata):
    NeuronEdit.setup_anndata(adata)
    with pytest.raises(TypeError, match="a mapping of modalities to likelihoods needs a MuData"):
        NeuronEdit(adata, likelihood=LIKELIHOOD)


def test_a_layer_of_either_modality_is_not_overwritten(joint, edit, mdata):
    mdata["prot"].layers["predicted"] = mdata["prot"].X.copy()
    with pytest.raises(ValueError, match="layer_added='predicted' is already in"):
        joint.apply_edit(edit, mdata, QUERY, layer_added="predicted")
    assert "predicted" not in mdata["rna"].layers
    with pytest.raises(ValueError, match="a view"):
        joint.apply_edit(edit, mdata[:300], layer_added="new")


def test_values_of_another_scale_are_noticed_in_their_modality(joint, mdata):
    mdata["rna"].X = mdata["rna"].X * 0.5
    with pytest.warns(UserWarning, match=r"mdata\['rna'\].X looks like values that are not whole numbers"):
        joint.get_latent_representation(mdata)
    mdata["rna"].X = mdata["rna"].X * -1
    with pytest.raises(ValueError, match=r"mdata\['rna'\].X holds negative values"):
        joint.get_latent_representation(mdata)
