import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import roc_auc_score

from scvi_neuronedit import RegulatoryODE
from scvi_neuronedit.datasets import corrupt_prior, example_network, simulate_trajectories
from scvi_neuronedit.train import DASHPruning

KEYS = {"time_key": "time", "trajectory_key": "trajectory"}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
FAST = {"solver": "rk4", "adjoint": False}


@pytest.fixture(scope="module")
def simulated():
    return simulate_trajectories(example_network(), 60, noise=0.05, random_state=2)


@pytest.fixture
def adata(simulated):
    return simulated.copy()


def create(adata, **kwargs):
    scvi.settings.seed = 0
    RegulatoryODE.setup_anndata(adata, **KEYS)
    return RegulatoryODE(adata, **{"n_hidden": 12, **FAST, **kwargs})


@pytest.fixture(scope="module")
def truth():
    return example_network().network


@pytest.fixture(scope="module")
def model(simulated, truth):
    """Pruned with a prior of which one edge in five is wrong. Its AnnData must not be written to."""
    model = create(simulated.copy(), prior=corrupt_prior(truth, 0.2))
    pruning = DASHPruning(0.5, start=3, first=0.5, every=5)
    model.train(60, batch_size=16, pruning=pruning, plan_kwargs={"lr": 5e-3}, **QUIET)
    return model


def test_training_learns_the_dynamics(model, simulated):
    clean = simulated.layers["noise_free"].reshape(60, 5, 30)
    start, end = torch.from_numpy(clean[:, 0]), clean[:, 1]
    error = ((model.module.step(start, torch.full((60,), 2.0)).numpy() - end) ** 2).mean()
    no_change = ((clean[:, 0] - end) ** 2).mean()
    assert error < 0.1 * no_change


def test_the_default_solver_trains_too(adata):
    model = create(adata, solver="dopri5", adjoint=True)
    model.train(2, **QUIET)
    losses = model.history["train_loss"].to_numpy(float).ravel()
    assert losses[1] < losses[0]


def test_the_network_is_found_where_the_prior_is_wrong(model, truth):
    edges = model.get_regulatory_network()
    effects = edges.pivot(index="source", columns="target", values="effect").reindex_like(truth).fillna(0)
    # among pairs the prior says nothing of, true edges have larger effects than pairs without an edge
    silent = model.module.prior.numpy() == 0
    is_edge, size = truth.to_numpy()[silent] != 0, effects.abs().to_numpy()[silent]
    assert is_edge.sum() == 10
    assert roc_auc_score(is_edge, size) > 0.75


def test_the_edge_table_is_the_networks(model):
    table, effects = model.get_regulatory_network(), model.module.dynamics.effects().numpy()
    assert len(table) == (effects != 0).sum()
    names = list(model.var_names_)
    assert table["effect"].abs().is_monotonic_decreasing
    for row in table.iloc[:: len(table) // 20].itertuples():
        assert row.effect == effects[names.index(row.source), names.index(row.target)]
        assert row.sign == np.sign(row.effect)
        prior = float(model.module.prior[names.index(row.source), names.index(row.target)])
        assert (row.in_prior, row.prior_sign) == (prior != 0, np.sign(prior))
    assert (model.get_regulatory_network(min_effect=0.01)["effect"].abs() > 0.01).all()


def test_signs_of_a_network_set_by_hand(adata):
    model = create(adata)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.zero_()
        d = model.module.dynamics
        d.gene_multipliers.fill_(1.0)
        d.sums.weight[0, 0], d.combine_sums.weight[9, 0] = 1.0, -2.0  # gene 0 represses gene 9
        d.products.weight[3, 1], d.combine_products.weight[10, 3] = 0.5, 4.0  # gene 1 activates gene 10
    table = model.get_regulatory_network()
    assert table[["source", "target", "effect", "sign"]].to_numpy().tolist() == [
        ["TF1", "TF10", -2.0, -1],
        ["TF2", "TF11", 2.0, 1],
    ]
    # and they are the signs of what a higher level of the regulator does
    g = torch.full((2, 30), 0.5)
    g[1, :2] = 0.9
    low, high = d(g).detach()
    assert (high[9] < low[9], high[10] > low[10]) == (True, True)


def test_velocity_is_the_slope_of_the_trajectory(model):
    adata = model.adata[:4].copy()
    velocity = model.get_velocity(adata)
    assert list(velocity.columns) == list(model.var_names_)
    path = model.predict_trajectory(adata.X, times=[0, 1e-2])
    slope = (path.X[1::2] - path.X[::2]) / 1e-2
    np.testing.assert_allclose(velocity, slope, atol=0.01)
    model.get_velocity(adata, layer_added="velocity")
    np.testing.assert_allclose(adata.layers["velocity"], velocity)
    assert adata.uns["neuronedit"]["velocity"]["kind"] == "velocity"
    with pytest.raises(ValueError, match="velocity"):
        model.get_velocity(adata, layer_added="velocity")


def test_roll_out_starts_at_the_first_points_and_ignores_later_ones(model):
    adata = model.adata[:10].copy()
    predicted = model.predict_trajectory(adata=adata)
    np.testing.assert_array_equal(predicted.X[[0, 5]], adata.X[[0, 5]])
    changed = adata.copy()
    changed.X[[1, 2, 3, 4, 6, 7, 8, 9]] = 0.5
    np.testing.assert_array_equal(model.predict_trajectory(adata=changed).X, predicted.X)
    assert list(predicted.obs["time"]) == list(adata.obs["time"])
    model.predict_trajectory(adata=adata, layer_added="predicted")
    np.testing.assert_array_equal(adata.layers["predicted"], predicted.X)
    # the same from the start itself
    path = model.predict_trajectory(pd.Series(adata.X[0], index=adata.var_names), times=[0, 2, 3, 7, 9])
    np.testing.assert_allclose(path.X, predicted.X[:5], atol=1e-5)
    assert path.obs["trajectory"].tolist() == ["start_1"] * 5


def test_rows_may_have_any_order(model, rng):
    adata = model.adata[:15].copy()
    order = rng.permutation(15)
    shuffled = model.predict_trajectory(adata=adata[order].copy())
    np.testing.assert_allclose(shuffled.X, model.predict_trajectory(adata=adata).X[order], atol=1e-6)


def test_shuffled_rows_train_the_same_pairs(adata, rng):
    models = [create(a) for a in (adata, adata[rng.permutation(adata.n_obs)].copy())]
    pairs = []
    for model in models:
        model.train(1, train_size=1.0, **QUIET)
        splitter = model.trainer.datamodule
        names = model.adata.obs_names
        pairs.append({(names[a], names[b]) for a, b in splitter.train_pairs})
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 240


def test_whole_trajectories_are_set_aside(adata):
    model = create(adata)
    model.train(1, **QUIET)
    trained, validated = (set(adata.obs["trajectory"].iloc[i]) for i in (model.train_indices, model.validation_indices))
    assert not trained & validated
    assert (len(trained), len(validated)) == (54, 6)


def test_one_trajectory_is_split_by_pairs(simulated):
    adata = simulated[:5].copy()
    RegulatoryODE.setup_anndata(adata, time_key="time")
    model = RegulatoryODE(adata, n_hidden=3, **FAST)
    model.train(1, train_size=0.75, **QUIET)
    assert (model.trainer.datamodule.n_train, model.trainer.datamodule.n_val) == (3, 1)


def test_perturbation_holds_the_gene_and_changes_what_it_regulates(model):
    edges = model.get_regulatory_network()
    edge = edges[edges["source"].ne(edges["target"])].iloc[0]
    low, high = (model.simulate_perturbation(edge["source"], value, times=[0, 2, 9]) for value in (0.0, 1.0))
    at = low.var_names.get_loc(edge["source"])
    assert (low.X[:, at] == 0).all()
    assert (high.X[:, at] == 1).all()
    assert low.shape == (180, 30)
    difference = (high.X - low.X)[:, low.var_names.get_loc(edge["target"])][low.obs["time"] == 9]
    assert np.sign(difference.mean()) == edge["sign"]
    np.testing.assert_allclose(low.layers["change"], low.X - low.layers["unperturbed"])
    start = model.adata.X[:1]
    both = model.simulate_perturbation({"TF1": 0.2, "TF9": 1.0}, start=start, times=[0, 1])
    np.testing.assert_allclose(both[:, ["TF1", "TF9"]].X, [[0.2, 1.0]] * 2)
    held = model.predict_trajectory(start, times=[0, 1])
    np.testing.assert_allclose(both.layers["unperturbed"], held.X)


def test_masks_and_predictions_survive_saving(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    loaded = RegulatoryODE.load(tmp_path / "model", accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.get_regulatory_network(), model.get_regulatory_network())
    np.testing.assert_array_equal(loaded.predict_trajectory().X, model.predict_trajectory().X)
    assert loaded.pruning_ == model.pruning_
    zero = loaded.module.dynamics.sums.weight_mask == 0
    loaded.train(2, **QUIET)
    d = loaded.module.dynamics
    assert torch.equal((d.sums.weight_orig * d.sums.weight_mask)[zero], torch.zeros(int(zero.sum())))
    assert torch.equal(d.sums.weight_mask == 0, zero)


def test_a_model_without_data(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = RegulatoryODE.load(tmp_path / "model", adata=False, accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.get_regulatory_network(), model.get_regulatory_network())
    path = loaded.predict_trajectory(model.adata.X[0], times=[0, 1])
    np.testing.assert_array_equal(path.X, model.predict_trajectory(model.adata.X[0], times=[0, 1]).X)
    with pytest.raises(ValueError, match="loaded without data"):
        loaded.predict_trajectory()
    with pytest.raises(ValueError, match="loaded without data"):
        loaded.train(1)


@pytest.mark.filterwarnings("ignore:.var_names. for")
def test_other_genes_are_not_loaded(model, tmp_path):
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="in the model's order"):
        RegulatoryODE.load(tmp_path / "model", model.adata[:, ::-1].copy(), accelerator="cpu")


def test_genes_are_matched_by_name(model, rng):
    adata = model.adata[:5].copy()
    other = AnnData(np.ones((5, 1), np.float32), obs=adata.obs, var=pd.DataFrame(index=["other"]))
    order = rng.permutation(30)
    wider = AnnData(
        sparse.csr_matrix(np.hstack([other.X, adata.X[:, order]])),
        obs=adata.obs,
        var=pd.DataFrame(index=["other", *adata.var_names[order]]),
    )
    model.predict_trajectory(adata=wider, layer_added="predicted")
    expected = model.predict_trajectory(adata=adata).X[:, order]
    np.testing.assert_array_equal(wider.layers["predicted"][:, 1:], expected)
    assert (wider.layers["predicted"][:, 0] == 1).all()


def test_a_layer_can_be_registered(simulated):
    adata = simulated.copy()
    adata.X = np.full_like(adata.X, 0.5)
    RegulatoryODE.setup_anndata(adata, layer="noise_free", **KEYS)
    model = RegulatoryODE(adata, n_hidden=3, **FAST)
    model.train(1, **QUIET)
    np.testing.assert_array_equal(model.predict_trajectory().X[::5], adata.layers["noise_free"][::5])


def test_the_prior_loss_pulls_regulation_towards_the_prior(adata, truth):
    losses = []
    for weight in (0.0, 0.9):
        model = create(adata.copy(), prior=truth, prior_loss_weight=weight)
        model.train(15, plan_kwargs={"lr": 1e-2}, **QUIET)
        torch.manual_seed(0)
        losses.append(model.module.prior_loss().item())
    assert losses[1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a.obs.__setitem__("time", 1.0), ValueError, "more than one row at time 1"),
        (lambda a: a.obs.__setitem__("trajectory", a.obs_names), ValueError, "single point"),
        (lambda a: a.X.__setitem__((3, 3), np.nan), ValueError, "NaN"),
        (lambda a: a.obs.drop(columns="time", inplace=True), KeyError, "time_key 'time' is not in adata.obs"),
    ],
)
def test_bad_data_are_refused(adata, change, error, message):
    change(adata)
    with pytest.raises(error, match=message):
        RegulatoryODE.setup_anndata(adata, **KEYS)


def test_the_scale_is_checked(adata):
    adata.X *= 100
    with pytest.warns(UserWarning, match="between about 0 and 1"):
        RegulatoryODE.setup_anndata(adata, **KEYS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": np.ones((3, 3))}, r"prior has shape \(3, 3\)"),
        ({"prior": example_network().network.rename(index={"TF1": "TFx"})}, "rows of prior lack 1 of 30 genes: 'TF1'"),
        ({"prior": example_network().network, "input_prior": np.ones((2, 2))}, "input_prior has shape"),
        ({"solver": "dopri"}, "did you mean 'dopri"),
        ({"prior_loss_weight": 0.5}, "need a prior"),
        ({"prior_loss_weight": 1.0}, r"prior_loss_weight=1\.0"),
    ],
)
def test_bad_models_are_refused(adata, arguments, message):
    RegulatoryODE.setup_anndata(adata, **KEYS)
    with pytest.raises(ValueError, match=message):
        RegulatoryODE(adata, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": np.ones(3), "times": [0, 1]}, "needs 30 genes"),
        ({"start": np.full(30, np.nan), "times": [0, 1]}, "start holds NaN"),
        ({"start": np.ones(30), "times": [0, 2, 1]}, "each larger than the one before"),
        ({"start": np.ones(30), "times": [0, 0]}, "each larger than the one before"),
        ({"start": np.ones(30), "times": [0]}, "at least two times"),
        ({"start": np.ones(30)}, "at least two times"),
        ({"times": [0, 1]}, "times is given without start"),
        ({"start": np.ones(30), "times": [0, 1], "layer_added": "x"}, "with start the prediction is returned"),
    ],
)
def test_bad_predictions_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.predict_trajectory(**arguments)


def test_bad_perturbations_are_refused(model):
    with pytest.raises(ValueError, match="did you mean 'GENE1'"):
        model.simulate_perturbation("GEN1", 0)
    with pytest.raises(TypeError, match="either gene"):
        model.simulate_perturbation("GENE1")
    with pytest.raises(TypeError, match="either gene"):
        model.simulate_perturbation({"GENE1": 1.0}, 1.0)
    with pytest.raises(ValueError, match="finite"):
        model.simulate_perturbation("GENE1", np.nan)


def test_an_untrained_model_says_so(adata):
    with pytest.raises(RuntimeError, match="not trained"):
        create(adata).get_velocity()


def test_a_solver_that_fails_in_training_names_the_remedy(adata):
    model = create(adata)
    with pytest.raises(RuntimeError, match="lower learning rate"):
        model.train(30, plan_kwargs={"lr": 100.0}, **QUIET)
