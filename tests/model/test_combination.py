import numpy as np
import pytest
import scanpy as sc
import scvi
from anndata import AnnData, concat

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.data import MatrixReader
from scvi_neuronedit.datasets import simulate_combinations
from scvi_neuronedit.metrics import average_treatment_effect, summarize_treatment_effects


@pytest.fixture(scope="module")
def simulation() -> sc.AnnData:
    adata = simulate_combinations(
        n_perturbations=4, n_doubles=4, n_latent=4, n_genes=40, n_cells=60, likelihood="normal", random_state=1
    )
    adata.X = adata.X.astype(np.float32)
    return adata


@pytest.fixture(scope="module")
def trained(simulation) -> NeuronEdit:
    """Trained on singles and the doubles seen. Its AnnData must not be written to."""
    scvi.settings.seed = 0
    seen = simulation[simulation.obs["split"] == "train"].copy()
    NeuronEdit.setup_anndata(seen, condition_key="perturbation")
    model = NeuronEdit(seen, n_latent=6, hidden=(32,))
    model.train(max_epochs=30, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    return model


@pytest.fixture
def held_out(simulation) -> list[str]:
    return simulation.obs.loc[simulation.obs["split"] == "test", "perturbation"].iloc[0].split("+")


def mean_of(adata, label) -> np.ndarray:
    return adata.X[(adata.obs["perturbation"] == label).to_numpy()].mean(axis=0)


def test_both_orders_are_predicted(trained, simulation, held_out):
    a, b = held_out
    predicted = trained.predict_combination(held_out, "ctrl", layer_added=None, method="mean")
    labels = trained.adata.obs["perturbation"]
    start = labels[labels.isin(held_out)].to_numpy()
    assert predicted.shape == (len(start), 40)
    for first, other in ((a, b), (b, a)):
        edit = trained.learn_edit("ctrl", other, "mean")
        np.testing.assert_allclose(predicted[start == first], trained.apply_edit(edit, query=first), atol=1e-5)
    control = mean_of(simulation, "ctrl")
    truth = mean_of(simulation, f"{a}+{b}") - control
    assert np.corrcoef(predicted.mean(axis=0) - control, truth)[0, 1] > 0.8


def test_the_prediction_is_scored_like_any_other(trained, simulation, held_out):
    label = "+".join(held_out)
    predicted = AnnData(
        trained.predict_combination(held_out, "ctrl", layer_added=None, method="mean"), var=simulation.var
    )
    predicted.obs["perturbation"] = label
    control = simulation[simulation.obs["perturbation"] == "ctrl"]
    effect = average_treatment_effect(concat([control, predicted]), "perturbation", "ctrl")
    observed = average_treatment_effect(simulation, "perturbation", "ctrl")
    summary = summarize_treatment_effects(effect, observed, held_out=[label])
    assert list(summary.index) == ["held out"]
    assert summary.loc["held out", "pearson"] > 0.8


def test_an_order_can_be_chosen_and_three_conditions_are_chained(trained):
    conditions = ["P1", "P2", "P3"]
    predicted = trained.predict_combination(conditions, "ctrl", layer_added=None, order="given", method="mean")
    chain = trained.learn_edit("ctrl", "P2", "mean") >> trained.learn_edit("ctrl", "P3", "mean")
    np.testing.assert_allclose(predicted, trained.apply_edit(chain, query="P1"), atol=1e-5)
    average = trained.predict_combination(conditions, "ctrl", layer_added=None, method="mean")
    first = trained.adata.obs["perturbation"]
    np.testing.assert_allclose(average[(first[first.isin(conditions)] == "P1").to_numpy()], predicted, atol=1e-5)


def test_a_layer_holds_the_prediction_and_all_other_cells(trained):
    adata = trained.adata[::-1].copy()
    trained.predict_combination(["P1", "P2"], "ctrl", adata, method="mean")
    started = adata.obs["perturbation"].isin(["P1", "P2"]).to_numpy()
    np.testing.assert_array_equal(adata.layers["predicted"][~started], adata.X[~started])
    array = trained.predict_combination(["P1", "P2"], "ctrl", adata, layer_added=None, method="mean")
    np.testing.assert_array_equal(adata.layers["predicted"][started], array)
    record = adata.uns["neuronedit"]["predicted"]
    assert record["combination"] == "P1 + P2"
    assert record["order"] == "average"
    assert adata.obs["predicted_support"].notna().to_numpy().tolist() == started.tolist()
    with pytest.raises(ValueError, match="is already in adata.layers"):
        trained.predict_combination(["P1", "P2"], "ctrl", adata, method="mean")


def test_counts_stay_counts():
    adata = simulate_combinations(n_perturbations=3, n_doubles=0, n_latent=3, n_genes=20, n_cells=40)
    NeuronEdit.setup_anndata(adata, condition_key="perturbation")
    model = NeuronEdit(adata, n_latent=4, hidden=(16,), likelihood="nb")
    model.train(max_epochs=3, accelerator="cpu", enable_progress_bar=False)
    model.predict_combination(["P1", "P2"], "ctrl", method="mean")
    predicted = MatrixReader(adata, "predicted")(np.arange(adata.n_obs))
    assert (predicted == np.rint(predicted)).all()
    synergy = model.get_synergy(["P1", "P2"], "ctrl", method="mean", n_bootstrap=2)
    assert np.isfinite(synergy[["synergy", "lower", "upper"]]).all(axis=None)


def test_measured_synergy_is_the_departure_from_the_sum(trained, simulation):
    label = next(name for name in trained.adata.obs["perturbation"].unique() if "+" in name)
    a, b = label.split("+")
    synergy = trained.get_synergy([b, a], "ctrl")
    means = {name: mean_of(simulation, name).astype(float) for name in (a, b, label, "ctrl")}
    expected = means[label] - (means[a] + means[b] - means["ctrl"])
    np.testing.assert_allclose(synergy["synergy"], expected, atol=1e-4)
    assert synergy["measured"].all()
    squares = sum(
        simulation.X[(simulation.obs["perturbation"] == name).to_numpy()].var(axis=0, ddof=1)
        / (simulation.obs["perturbation"] == name).sum()
        for name in means
    )
    np.testing.assert_allclose(synergy["std"], np.sqrt(squares), rtol=1e-3)
    np.testing.assert_allclose((synergy["upper"] - synergy["lower"]) / 2, 1.6449 * synergy["std"], rtol=1e-3)
    # doubles are additive here, so about nine in ten intervals hold zero
    assert ((synergy["lower"] < 0) & (synergy["upper"] > 0)).mean() > 0.7


def test_predicted_synergy_is_that_of_the_prediction(trained, simulation, held_out):
    synergy = trained.get_synergy(held_out, "ctrl", method="mean", n_bootstrap=4)
    a, b = held_out
    predicted = [trained.apply_edit(trained.learn_edit("ctrl", x, "mean"), query=y) for x, y in ((a, b), (b, a))]
    mean = np.mean([x.mean(axis=0) for x in predicted], axis=0)
    np.testing.assert_allclose(synergy["combination"], mean, atol=1e-4)
    additive = mean_of(simulation, a) + mean_of(simulation, b) - mean_of(simulation, "ctrl")
    np.testing.assert_allclose(synergy["synergy"], mean - additive, atol=1e-4)
    assert not synergy["measured"].any()
    assert (synergy["std"] > 0).all()
    again = trained.get_synergy(held_out, "ctrl", method="mean", n_bootstrap=4)
    np.testing.assert_array_equal(synergy, again)


def test_a_measured_combination_can_be_predicted_all_the_same(trained):
    label = next(name for name in trained.adata.obs["perturbation"].unique() if "+" in name)
    synergy = trained.get_synergy(label.split("+"), "ctrl", method="mean", n_bootstrap=2, use_measured=False)
    assert not synergy["measured"].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conditions": "P1"}, r"conditions='P1'; a combination takes a list of at least two"),
        ({"conditions": ["P1"]}, "at least two"),
        ({"conditions": ["P1", "P9"]}, "condition 'P9' is not in adata.obs"),
        ({"conditions": ["P1", "P1"]}, "60 cells of 'P1' are also cells of another condition"),
        ({"conditions": ["P1", "ctrl"]}, "300 cells of 'ctrl' are also cells of another condition"),
        ({"control": "control"}, "control 'control' is not in .*did you mean 'ctrl'"),
        ({"order": "reverse"}, "order 'reverse' is not in the orders"),
    ],
)
def test_bad_input(trained, arguments, message):
    with pytest.raises(ValueError, match=message):
        trained.predict_combination(**{"conditions": ["P1", "P2"], "control": "ctrl", "layer_added": None, **arguments})


def test_bad_levels(trained):
    with pytest.raises(ValueError, match="level=1.5; it must lie between 0 and 1"):
        trained.get_synergy(["P1", "P2"], "ctrl", level=1.5)
    with pytest.raises(ValueError, match="n_bootstrap=1; it must be at least 2"):
        trained.get_synergy(["P1", "P2"], "ctrl", n_bootstrap=1)
