"""Correcting batches with control samples."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.edit import feature_emd

N_MARKERS = 12
BATCHES = {"b1": np.zeros(N_MARKERS), "b2": np.linspace(-1, 1, N_MARKERS), "b3": np.linspace(2, 0, N_MARKERS)}


def measure(rng, batch, sample, n_cells):
    """Two cell types, the patient's second one brighter; every batch adds its own shift to all markers but one."""
    is_second = rng.random(n_cells) < (0.3 if sample != "control_2" else 0.5)
    x = rng.normal(3, 0.4, size=(n_cells, N_MARKERS))
    x[is_second] += np.where(np.arange(N_MARKERS) % 2 == 0, 2, 0) + (0.8 if sample == "patient" else 0)
    shift = BATCHES[batch].copy()
    shift[5] = 0
    obs = {"batch": batch, "sample": sample, "cell_type": np.where(is_second, "second", "first")}
    return x + shift, pd.DataFrame(obs, index=[f"{batch}_{sample}_{i}" for i in range(n_cells)])


@pytest.fixture(scope="module")
def cytometry():
    """b1 and b2 share control_1 and control_2, b2 and b3 control_3; every batch has a patient."""
    rng = np.random.default_rng(0)
    samples = {
        "b1": ["control_1", "control_2", "patient"],
        "b2": ["control_1", "control_2", "control_3", "patient"],
        "b3": ["control_3", "patient"],
    }
    parts = [measure(rng, batch, sample, 200) for batch, names in samples.items() for sample in names]
    obs = pd.concat([obs for _, obs in parts]).astype("category")
    adata = ad.AnnData(np.concatenate([x for x, _ in parts]).astype(np.float32), obs)
    adata.var_names = [f"marker_{i}" for i in range(N_MARKERS)]
    return adata


@pytest.fixture(scope="module")
def trained(cytometry):
    scvi.settings.seed = 0
    adata = cytometry.copy()
    NeuronEdit.setup_anndata(adata, batch_key="batch")
    model = NeuronEdit(adata, n_latent=8, hidden=(32,))
    model.train(max_epochs=30, accelerator="cpu", enable_progress_bar=False)
    return model


CONTROLS = {"sample": ["control_1", "control_2", "control_3"]}
EXACT = {"method": "mean", "layers": "output", "guard": False, "layer_added": None}


def cells(adata, batch, sample):
    return ((adata.obs["batch"] == batch) & (adata.obs["sample"] == sample)).to_numpy()


def mean_shift(adata, source, target, sample):
    x = adata.X
    return x[cells(adata, target, sample)].mean(axis=0) - x[cells(adata, source, sample)].mean(axis=0)


def test_batches_become_alike_and_patients_stay_different(trained):
    adata = trained.adata.copy()
    assert trained.correct_batch("b1", CONTROLS, adata) is None
    before, after = adata.X, adata.layers["corrected"]
    reference = (adata.obs["batch"] == "b1").to_numpy()
    np.testing.assert_array_equal(after[reference], before[reference])
    truth = before[cells(adata, "b1", "patient")]
    for batch in ("b2", "b3"):
        patient, control = (cells(adata, batch, sample) for sample in ("patient", "control_3"))
        was, now = (feature_emd(x[patient], truth).mean() for x in (before, after))
        assert now < 0.35 * was
        # what tells the patient from a control is kept
        kept = feature_emd(after[patient], after[control]).mean() / feature_emd(before[patient], before[control]).mean()
        assert 0.85 < kept < 1.15


def test_every_cell_of_a_batch_moves_as_its_controls_do(trained):
    adata = trained.adata
    corrected = trained.correct_batch("b1", {"sample": "control_1"}, adata[adata.obs["batch"] != "b3"].copy(), **EXACT)
    two = adata[adata.obs["batch"] != "b3"]
    shift = mean_shift(adata, "b2", "b1", "control_1")
    expected = two.X + np.where((two.obs["batch"] == "b2").to_numpy()[:, None], shift, 0)
    np.testing.assert_allclose(corrected, expected, atol=1e-4)


def test_batches_are_chained_along_shared_controls(trained):
    adata = trained.adata
    corrected = trained.correct_batch("b1", {"sample": ["control_1", "control_3"]}, **EXACT)
    b3 = (adata.obs["batch"] == "b3").to_numpy()
    shift = mean_shift(adata, "b3", "b2", "control_3") + mean_shift(adata, "b2", "b1", "control_1")
    np.testing.assert_allclose(corrected[b3], adata.X[b3] + shift, atol=1e-4)


def test_controls_are_compared_with_themselves_and_weighted(trained):
    adata = trained.adata[trained.adata.obs["batch"] != "b3"].copy()
    adata = adata[~(cells(adata, "b2", "control_2") & (np.arange(adata.n_obs) % 2 == 0))].copy()  # half the cells
    controls = {"sample": ["control_1", "control_2"]}
    shifts = [mean_shift(adata, "b2", "b1", name) for name in controls["sample"]]
    n_common = [200, cells(adata, "b2", "control_2").sum()]
    b2 = (adata.obs["batch"] == "b2").to_numpy()
    for weights in (None, {"control_2": 3.0}):
        share = np.array(n_common) * (1, (weights or {}).get("control_2", 1))
        corrected = trained.correct_batch("b1", controls, adata, control_weights=weights, **EXACT)
        expected = np.average(shifts, axis=0, weights=share)
        np.testing.assert_allclose(corrected[b2] - adata.X[b2], np.tile(expected, (b2.sum(), 1)), atol=1e-4)


def test_pooled_controls_as_reference(trained):
    adata = two_batches(trained)
    corrected = trained.correct_batch("pooled", {"sample": ["control_1", "control_2"]}, adata, **EXACT)
    names = ["control_1", "control_2"]
    pool = np.mean([adata.X[adata.obs["sample"] == name].mean(axis=0) for name in names], axis=0)
    for batch in ("b1", "b2"):
        in_batch = (adata.obs["batch"] == batch).to_numpy()
        shift = pool - np.mean([adata.X[cells(adata, batch, name)].mean(axis=0) for name in names], axis=0)
        np.testing.assert_allclose(corrected[in_batch], adata.X[in_batch] + shift, atol=1e-4)
    with pytest.raises(ValueError, match="needs a control that every batch has"):
        trained.correct_batch("pooled", CONTROLS)


def test_the_largest_batch_as_reference(trained):
    corrected = trained.correct_batch("largest", CONTROLS, layer_added=None, method="mean")
    b2 = (trained.adata.obs["batch"] == "b2").to_numpy()
    np.testing.assert_array_equal(corrected[b2], trained.adata.X[b2])


def test_a_feature_no_batch_moves_is_left_nearly_as_it_is(trained):
    corrected = trained.correct_batch("b1", CONTROLS, layer_added=None)
    unguarded = trained.correct_batch("b1", CONTROLS, layer_added=None, guard=False)
    moved, moved_unguarded = (np.abs(x - trained.adata.X).mean(axis=0) for x in (corrected, unguarded))
    assert moved[5] < 0.6 * moved_unguarded[5]
    assert moved[0] > 0.9 * moved_unguarded[0]


def test_held_out_controls(trained):
    adata = trained.adata
    exact = {"method": "mean", "layers": "output"}
    table = trained.get_control_test("b1", CONTROLS, **exact)
    steps = table.groupby(["batch", "towards"], sort=False)["held_out"].unique()
    assert steps["b2", "b1"].tolist() == ["control_1", "control_2"]
    assert steps["b3", "b2"].tolist() == ["control_3, half 1", "control_3, half 2"]
    shift = mean_shift(adata, "b2", "b1", "control_2")  # learnt on the other
    x, truth = (adata.X[cells(adata, batch, "control_1")] for batch in ("b2", "b1"))
    row = table[(table["batch"] == "b2") & (table["held_out"] == "control_1")]
    np.testing.assert_allclose(row["emd_before"], feature_emd(x, truth), rtol=1e-4)
    np.testing.assert_allclose(row["emd_after"], feature_emd(x + shift, truth), atol=1e-4)
    np.testing.assert_allclose(row["reduction"], 1 - row["emd_after"] / row["emd_before"])
    assert (row["emd_limit"] > row["emd_before"]).all()
    assert set(adata.layers) == set()


def test_the_test_is_logged_before_anything_is_written(trained, caplog):
    with caplog.at_level("INFO", logger="scvi"):
        trained.correct_batch("b1", {"sample": ["control_1", "control_2"]}, two_batches(trained), layer_added=None)
    text = caplog.text
    assert (
        "b2 -> b1: learnt from control_1, control_2; on controls held out (control_1, control_2) the mean EMD falls"
        in text
    )
    assert "marker_11" in text


def two_batches(model):
    return model.adata[model.adata.obs["batch"] != "b3"].copy()


def test_layer_record_and_support(trained, tmp_path):
    adata = trained.adata.copy()
    adata.X[cells(adata, "b3", "patient")] += 50  # nothing like a control
    trained.correct_batch("b1", CONTROLS, adata)
    record = adata.uns["neuronedit"]["corrected"]
    assert record["batches"].loc["b3", "path"] == "b3 -> b2 -> b1"
    assert record["batches"].loc["b3", "controls"] == "control_3; control_1, control_2"
    assert float(record["batches"].loc["b2", "emd_after"]) < float(record["batches"].loc["b2", "emd_before"])
    assert len(record["control_test"]) == 4 * N_MARKERS
    support = adata.obs["corrected_support"]
    assert support[adata.obs["batch"] == "b1"].isna().all()
    assert (support[cells(adata, "b3", "patient")] == 0).all()
    assert support[cells(adata, "b3", "control_3")].mean() > 0.3
    adata.write_h5ad(tmp_path / "out.h5ad")
    again = ad.read_h5ad(tmp_path / "out.h5ad").uns["neuronedit"]["corrected"]
    assert again["batches"].loc["b2", "held_out"] == "control_1, control_2"


def test_labels_are_matched(cytometry):
    scvi.settings.seed = 0
    adata = cytometry[cytometry.obs["batch"] != "b3"].copy()
    few = cells(adata, "b1", "control_1") & (adata.obs["cell_type"] == "first").to_numpy()
    adata = adata[~few | (np.arange(adata.n_obs) % 3 == 0)].copy()  # composition differs, nothing else
    NeuronEdit.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = NeuronEdit(adata, n_latent=4, hidden=(16,))
    model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False)
    b2 = (adata.obs["batch"] == "b2").to_numpy()
    shift = np.delete(BATCHES["b1"] - BATCHES["b2"], 5)
    errors = []
    for match in (True, False):
        corrected = model.correct_batch("b1", {"sample": "control_1"}, match_labels=match, **EXACT)
        found = np.delete((corrected - adata.X)[b2].mean(axis=0), 5)
        errors.append(np.abs(found - shift).max())
    assert errors[0] < 0.2 < 0.35 < errors[1]


def test_counts_stay_counts(counts):
    rng = np.random.default_rng(0)
    counts.obs["batch"] = np.where(rng.random(counts.n_obs) < 0.5, "b1", "b2")
    x = counts.X.toarray()
    x[counts.obs["batch"] == "b2", :40] *= 3
    counts.X = x
    NeuronEdit.setup_anndata(counts, batch_key="batch")
    model = NeuronEdit(counts, n_latent=6, hidden=(32,), likelihood="nb")
    model.train(max_epochs=80, accelerator="cpu", enable_progress_bar=False)
    model.correct_batch("b1", {"cell_type": "type_1"}, counts)
    corrected = counts.layers["corrected"]
    assert (corrected == np.rint(corrected)).all()
    assert corrected.min() >= 0
    query = ((counts.obs["batch"] == "b2") & (counts.obs["cell_type"] != "type_1")).to_numpy()
    truth = x[((counts.obs["batch"] == "b1") & (counts.obs["cell_type"] != "type_1")).to_numpy()]
    share = [np.log(v[:, :40].sum(axis=1) / v.sum(axis=1)).mean() for v in (x[query], corrected[query], truth)]
    assert abs(share[1] - share[2]) < 0.4 * abs(share[0] - share[2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("b9", CONTROLS), ValueError, "reference 'b9' is not in"),
        (("b1", {"sample": ["control_1", "control_2"]}), ValueError, "cannot be reached from 'b3'"),
        (("b1", {"sample": ["control_1", "patient_7"]}), ValueError, "controls 'patient_7' is not in"),
    ],
)
def test_bad_designs_write_nothing(trained, arguments, error, message):
    adata = trained.adata.copy()
    with pytest.raises(error, match=message):
        trained.correct_batch(*arguments, adata)
    assert "corrected" not in adata.layers
    assert "neuronedit" not in adata.uns


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"control_weights": {"control_9": 1}}, "control_weights names 'control_9', which is not a control"),
        ({"control_weights": {"control_1": 0}}, r"control_weights\['control_1'\]=0; weights must be positive"),
        ({"control_weights": {"control_1": float("nan")}}, "must be positive and finite"),
        ({"method": "quantile"}, "method='quantile' is not a known activation map"),
        ({"layer_added": "a/b"}, "layer_added='a/b'"),
    ],
)
def test_bad_arguments(trained, kwargs, message):
    with pytest.raises(ValueError, match=message):
        trained.correct_batch("b1", CONTROLS, trained.adata.copy(), **kwargs)


def test_a_marker_that_one_batch_did_not_measure_is_left_as_it_is(trained):
    adata = trained.adata.copy()
    adata.X[(adata.obs["batch"] == "b2").to_numpy(), 2] = 0
    for guard in (True, False):
        trained.correct_batch("b1", CONTROLS, adata, guard=guard, overwrite=True)
        np.testing.assert_array_equal(adata.layers["corrected"][:, 2], adata.X[:, 2])
    assert "marker_2" in adata.uns["neuronedit"]["corrected"]["batches"].loc["b2", "kept_back"]


def test_names_of_batches_may_hold_a_slash(trained, tmp_path):
    adata = trained.adata.copy()
    adata.obs["batch"] = adata.obs["batch"].cat.rename_categories({"b1": "2023/01", "b2": "2023/02", "b3": "2023/03"})
    trained.correct_batch("2023/01", CONTROLS, adata, method="mean")
    adata.write_h5ad(tmp_path / "out.h5ad")
    again = ad.read_h5ad(tmp_path / "out.h5ad").uns["neuronedit"]["corrected"]["batches"]
    assert again.loc["2023/03", "path"] == "2023/03 -> 2023/02 -> 2023/01"


def test_constant_markers_are_refused(trained):
    adata = trained.adata.copy()
    adata.X[:, 3] = 1.5
    with pytest.raises(ValueError, match="constant in all cells: 'marker_3'"):
        trained.correct_batch("b1", CONTROLS, adata)


def test_a_batch_column_is_needed(model):
    with pytest.raises(ValueError, match="no batch_key was registered"):
        model.correct_batch("b1", {"cell_type": "type_1"})


def test_a_share_of_a_correction_makes_no_values_between_zero_and_the_smallest():
    rng = np.random.default_rng(0)
    batch = np.repeat(["b1", "b2"], 400)
    mean = rng.gamma(1, 0.6, 30) * np.where(batch == "b2", 2, 1)[:, None]
    adata = ad.AnnData(
        np.log1p(rng.poisson(mean)).astype(np.float32), pd.DataFrame({"batch": batch, "sample": "control"})
    )
    NeuronEdit.setup_anndata(adata, batch_key="batch")
    model = NeuronEdit(adata, n_latent=5, hidden=(32,))
    model.train(max_epochs=30, accelerator="cpu", enable_progress_bar=False)
    found = model.correct_batch("b1", {"sample": "control"}, match_labels=False, layer_added=None)
    assert (found == 0).mean() > 0.3
    assert (found[found > 0] < 0.5).mean() < 0.01
