"""The schedule by hand, and what it does to models of this package."""

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback

from scvi_neuronedit import SAMSVAE, NeuronEdit, RegulatoryODE
from scvi_neuronedit.datasets import example_network, simulate_mechanism_shifts, simulate_trajectories
from scvi_neuronedit.nn import WeightChain
from scvi_neuronedit.train import DASHPruning, cross_validate_lambdas

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def trajectories():
    return simulate_trajectories(example_network(), 12, noise=0.05)


def ode(trajectories, **kwargs):
    scvi.settings.seed = 0
    adata = trajectories.copy()
    RegulatoryODE.setup_anndata(adata, time_key="time", trajectory_key="trajectory")
    arguments = {"prior": example_network().network, "n_hidden": 6, "solver": "rk4", "adjoint": False}
    return RegulatoryODE(adata, **{**arguments, **kwargs})


def test_the_schedule_of_the_paper():
    pruning = DASHPruning()
    cuts = {e: pruning.share_cut(e, 200) for e in range(1, 201) if pruning.share_cut(e, 200)}
    assert cuts == {3: 0.7} | dict.fromkeys(range(10, 200, 10), 0.1)  # none at the last epoch
    assert np.prod([1 - c for e, c in cuts.items() if e <= 158]) == pytest.approx(0.3 * 0.9**15)
    once = DASHPruning(start=5, first=0.9, every=None)
    assert [e for e in range(1, 50) if once.share_cut(e, 49)] == [5]
    assert [e for e in range(1, 21) if DASHPruning(start=4, every=4).share_cut(e, 20)] == [4, 8, 12, 16]


def test_history_follows_the_schedule(trajectories):
    model = ode(trajectories)
    pruning = DASHPruning(start=2, first=0.5, every=3, amount=0.2)
    model.train(9, pruning=pruning, **QUIET)
    sparsity = model.history["sparsity"].to_numpy(float).ravel()
    expected = [0, 0.5, 0.6, 0.6, 0.6, 0.68, 0.68, 0.68, 0.68]
    # layers have 180 weights: cuts are rounded to whole ones, and unused inputs start at zero
    np.testing.assert_allclose(sparsity[1:], expected[1:], atol=0.01)
    losses = model.history["validation_loss"].to_numpy(float).ravel()
    assert len(losses) == 9
    assert pruning.best_epoch == 2 + int(np.argmin(losses[1:]))
    assert pruning.best_loss == pytest.approx(losses[1:].min())
    assert model.pruning_["best_sparsity"] == pytest.approx(sparsity[pruning.best_epoch - 1])


def test_the_model_of_the_best_epoch_is_kept(trajectories):
    model = ode(trajectories)
    # a learning rate that makes training worse after a while
    pruning = DASHPruning(start=1, first=0.3, every=2)
    model.train(8, pruning=pruning, plan_kwargs={"lr": 0.3}, **QUIET)
    losses = model.history["validation_loss"].to_numpy(float).ravel()
    assert pruning.best_epoch == 1 + int(np.argmin(losses))
    assert pruning.best_epoch < 8
    rows = model.validation_indices
    adata = model.adata[rows].copy()
    pairs = [(i, i + 1) for i in range(len(rows) - 1) if rows[i + 1] == rows[i] + 1 and (i + 1) % 5]
    start, end = (torch.from_numpy(adata.X[[pair[side] for pair in pairs]]) for side in (0, 1))
    times = adata.obs["time"].to_numpy()
    duration = torch.tensor([times[b] - times[a] for a, b in pairs], dtype=torch.float32)
    loss = torch.nn.functional.mse_loss(model.module.step(start, duration), end)
    assert float(loss) == pytest.approx(pruning.best_loss, rel=1e-4)


def test_the_learning_rate_goes_back_at_a_cut(trajectories):
    model = ode(trajectories)
    plan = {
        "reduce_lr_on_plateau": True,
        "lr_patience": 0,
        "lr_threshold": 10.0,
        "lr_factor": 0.5,
        "lr": 1e-3,
    }  # halved after every epoch but the first
    model.train(9, pruning=DASHPruning(start=3, first=0.5, every=4), plan_kwargs=plan, **QUIET)
    rates = model.history["lr-Adam/pg1"].to_numpy(float).ravel()
    halved = 1e-3 / 2 ** np.arange(5)
    # cuts at epochs 3, 4 and 8; the first epoch after the scheduler starts anew is never worse than none
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-3, 1e-3, *halved[[0, 1, 2]], 1e-3, 1e-3])
    multipliers = model.history["lr-Adam/pg2"].to_numpy(float).ravel()
    np.testing.assert_allclose(multipliers, 5 * rates)


def test_patience_stops_training(trajectories):
    model = ode(trajectories)
    pruning = DASHPruning(start=1, first=0.5, every=None, patience=2)
    model.train(20, pruning=pruning, plan_kwargs={"lr": 0.0, "reduce_lr_on_plateau": False}, **QUIET)
    assert len(model.history["validation_loss"]) == 3
    assert pruning.best_epoch == 1


def test_target_sparsity_ends_cutting_and_decides_what_can_be_best(trajectories):
    model = ode(trajectories)
    pruning = DASHPruning(start=1, first=0.5, every=2, amount=0.5, target_sparsity=0.8)
    model.train(9, pruning=pruning, **QUIET)
    assert model.history["sparsity"].to_numpy(float).max() == pytest.approx(0.8, abs=0.01)
    assert pruning.best_epoch >= 4
    assert pruning.sparsity == pytest.approx(0.8, abs=0.01)
    with pytest.raises(ValueError, match=r"target_sparsity=0\.99 is not reached: 5 epochs"):
        ode(trajectories).train(5, pruning=DASHPruning(target_sparsity=0.99), **QUIET)


def test_an_autoencoder_is_pruned_by_size(adata):
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata, n_latent=4, hidden=(16,))
    model.train(4, pruning=DASHPruning(0, start=2, first=0.6), **QUIET)
    for layer in model.module.networks[0].layers.values():
        assert (layer[0].weight_mask == 0).float().mean() == pytest.approx(0.6, abs=0.01)


def test_a_pruned_autoencoder_stays_pruned(adata, tmp_path):
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata, n_latent=4, hidden=(16,))
    model.train(4, pruning=DASHPruning(0, start=2, first=0.6), **QUIET)
    zero = model.module.networks[0].layers["code"][0].weight_mask == 0
    model.save(tmp_path / "model")
    loaded = NeuronEdit.load(tmp_path / "model", adata, accelerator="cpu")
    assert loaded.fingerprint == model.fingerprint
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    loaded.train(2, **QUIET)
    weight = loaded.module.networks[0].layers["code"][0]
    assert torch.equal((weight.weight_orig * weight.weight_mask) == 0, zero)


def test_own_chains(adata):
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata, n_latent=4, hidden=(16,))
    prior = torch.zeros(16, adata.n_vars)
    prior[:, :30] = 1

    def chains(module):
        return [WeightChain((module.networks[0].layers["encoder_1"][0],), prior)]

    model.train(3, pruning=DASHPruning(1.0, start=1, first=0.8, every=None, chains=chains), **QUIET)
    layers = model.module.networks[0].layers
    assert torch.equal(layers["encoder_1"][0].weight_mask, prior)
    assert not hasattr(layers["code"][0], "weight_mask")


def test_a_prior_is_needed_before_training_begins(adata):
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata, n_latent=4, hidden=(16,))
    with pytest.raises(ValueError, match="there is no prior"):
        model.train(3, pruning=DASHPruning(0.5), **QUIET)


def test_validation_is_needed(adata):
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata, n_latent=4, hidden=(16,))
    with pytest.raises(ValueError, match=r"pass train_size=0\.9"):
        model.train(3, train_size=1.0, pruning=DASHPruning(0), **QUIET)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lambdas": 1.5}, r"lambdas=\[1.5\]"),
        ({"lambdas": ()}, "lambdas"),
        ({"first": -0.1}, r"first=-0\.1"),
        ({"amount": 2}, "amount=2"),
        ({"target_sparsity": 1.1}, r"target_sparsity=1\.1"),
        ({"start": 0}, "start=0"),
        ({"every": 0}, "every=0"),
        ({"patience": 0}, "patience=0"),
        ({"scaling": "none"}, "scaling='none'"),
    ],
)
def test_bad_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DASHPruning(**arguments)


def test_a_lambda_for_each_layer(trajectories):
    with pytest.raises(ValueError, match="has 3 numbers, but the chain has 2 layers"):
        ode(trajectories).train(3, pruning=DASHPruning((0.1, 0.2, 0.3)), **QUIET)


def test_cross_validation_of_lambdas(trajectories):
    pruning = DASHPruning(start=1, first=0.8, every=None)
    groups = trajectories.obs["trajectory"]
    table = cross_validate_lambdas(
        lambda: ode(trajectories), pruning, [0.0, (0.9, 0.9)], groups, n_folds=2, max_epochs=3, **QUIET
    )
    assert set(table["lambdas"]) == {0.0, (0.9, 0.9)}
    assert table["validation_loss"].is_monotonic_increasing
    np.testing.assert_allclose(table["sparsity"], 0.8, atol=0.01)
    with pytest.raises(ValueError, match="only 12 groups"):
        cross_validate_lambdas(lambda: ode(trajectories), pruning, [0.0], groups, n_folds=13)
    with pytest.raises(ValueError, match="grid is empty"):
        cross_validate_lambdas(lambda: ode(trajectories), pruning, [], groups)


@pytest.mark.parametrize("graph", ["grid", "learned"])
def test_a_pruned_layer_on_a_graph(adata, graph, tmp_path):
    NeuronEdit.setup_anndata(adata)
    scvi.settings.seed = 0
    params = {"warmup": 10, "rebuild_every": 3, "n_neighbors": 2} if graph == "learned" else {}
    model = NeuronEdit(adata, n_latent=6, hidden=(16,), neuron_graph=graph, graph_weight=30.0, graph_params=params)
    pruning = DASHPruning(0, start=2, first=0.5, every=3, amount=0.2)
    model.train(12, batch_size=64, pruning=pruning, plan_kwargs={"lr": 1e-2}, **QUIET)

    # masks hold what the best epoch had
    for layer in model.module.networks[0].layers.values():
        assert (layer[0].weight[layer[0].weight_mask == 0] == 0).all()
    masks = [layer[0].weight_mask for layer in model.module.networks[0].layers.values()]
    zeros = sum(float((mask == 0).sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    assert zeros == pytest.approx(pruning.best_sparsity, abs=1e-6)

    # the best epoch is one with the penalty, which counts as part of its loss
    history = model.history
    losses = history["validation_loss"].to_numpy(float) + history["penalty_validation"].to_numpy(float)
    steps_per_epoch = -(-len(model.train_indices) // 64)
    first = max(1, -(-params.get("warmup", 0) // steps_per_epoch))
    assert pruning.best_epoch == first + 1 + int(np.argmin(losses.ravel()[first:]))
    assert pruning.best_loss == pytest.approx(losses.ravel()[first:].min(), rel=1e-5)

    # the graph is that of the best epoch
    found = model.get_neuron_graph()
    assert (found.graph, found.n_neurons) == (graph, 6)
    if graph == "learned":
        before = found.history[found.history["step"] < pruning.best_epoch * steps_per_epoch]
        assert found.adjacency.nnz // 2 == before["n_edges"].iloc[-1]

    model.save(tmp_path / "model")
    loaded = NeuronEdit.load(tmp_path / "model", adata, accelerator="cpu")
    assert loaded.fingerprint == model.fingerprint
    assert repr(loaded.get_neuron_graph()) == repr(found)


def test_the_cosine_goes_on_and_the_best_epoch_has_masks():
    adata = simulate_mechanism_shifts(6, 4, 20, (40, 0, 0), likelihood="nb")
    SAMSVAE.setup_anndata(adata, perturbation_key="perturbation", control="ctrl")
    scvi.settings.seed = 0
    model = SAMSVAE(adata, n_latent=4, n_hidden=16, n_particles=1)
    pruning = DASHPruning(0, start=2, first=0.3, every=2, amount=0.1, patience=None)
    rates = []

    class Watch(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    validate = {"train_size": 0.8, "check_val_every_n_epoch": 1}
    model.train(max_epochs=10, batch_size=64, callbacks=[pruning, Watch()], **validate, **QUIET)
    assert np.argmax(rates) <= 1
    assert (np.diff(rates[1:]) < 0).all()
    assert pruning.best_epoch > 5
    assert not model.module.shift.dense
