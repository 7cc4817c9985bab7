import warnings

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from scvi.model import SCVI

from scvi_neuronedit import SAMSVAE, NeuronEdit
from scvi_neuronedit.datasets import simulate_combinations
from scvi_neuronedit.metrics import circular_correlation, group_purity
from scvi_neuronedit.nn import GraphPenalty, named_graph
from scvi_neuronedit.train import EpochTrainingPlan, GraphRegularization, find_layers
from scvi_neuronedit.train._watched_layer import WatchedLayer


def fit(x, max_epochs=15, hidden=(32,), n_latent=15, batch_size=64, **kwargs):
    scvi.settings.seed = 0
    adata = AnnData(np.asarray(x, dtype=np.float32))
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata, hidden=hidden, n_latent=n_latent, **kwargs)
    model.train(max_epochs=max_epochs, batch_size=batch_size, accelerator="cpu", enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def modules():
    """Three modules of five genes, each on in half of the cells (Tong et al., hub and spoke)."""
    rng = np.random.default_rng(0)
    on = rng.random((1500, 3)) < 0.5
    factor = np.linalg.cholesky(np.full((5, 5), 0.6) + 0.4 * np.eye(5))
    x = rng.normal(size=(1500, 3, 5)) @ factor.T + 10 * on[:, :, None]
    return x.reshape(1500, 15), on


def best_module(z, on):
    correlation = np.corrcoef(z.T, on.T)[: z.shape[1], z.shape[1] :]
    return np.abs(np.nan_to_num(correlation)).argmax(axis=1)


def test_groups_of_neurons_recover_the_modules_of_the_data(modules):
    x, on = modules
    groups = np.repeat(np.arange(3), 5)
    structured = fit(x, neuron_graph="cliques", graph_weight=1.0, graph_params={"n_groups": 3, "normalize": "none"})
    truth = best_module(structured.get_activations(), on)
    assert group_purity(groups, truth) == 1
    assert set(truth) == {0, 1, 2}
    assert group_purity(groups, best_module(fit(x).get_activations(), on)) < 0.9


def test_a_ring_of_neurons_follows_a_circle():
    rng = np.random.default_rng(0)
    position = rng.random(2000)
    x = np.exp(np.cos(2 * np.pi * (position[:, None] - rng.random(60)))) + rng.normal(0, 0.5, (2000, 60))
    ring = {"neuron_graph": "ring", "graph_weight": 1.0, "graph_params": {"normalize": "none", "noise": 2.0}}
    correlations = {}
    for name, arguments in {"ring": ring, "none": {}}.items():
        z = fit(x, max_epochs=20, hidden=(64,), n_latent=20, **arguments).get_activations()
        bins = (position * 40).astype(int)
        peak = np.array([z[bins == b].mean(axis=0) for b in range(40)]).argmax(axis=0)
        correlations[name] = abs(circular_correlation(peak, np.arange(20)))
    assert correlations["ring"] >= 0.95
    assert correlations["none"] < 0.7


@pytest.mark.parametrize("graph", ["path", "learned"])
def test_neurons_are_made_readable_and_the_network_computes_the_same(modules, graph):
    x, on = modules
    params = {"normalize": "none", "warmup": 300, "rebuild_every": 20, "n_neighbors": 3}
    models = {
        readable: fit(
            x, 25, neuron_graph=graph, graph_weight=1.0, graph_params=params | {"readable": readable, "unmix": readable}
        )
        for readable in (True, False)
    }
    decoded = [model.get_normalized_expression(return_numpy=True) for model in models.values()]
    np.testing.assert_allclose(*decoded, rtol=1e-3, atol=1e-3)
    model_graph = models[True].get_neuron_graph()
    adjacencies = [model_graph.adjacency.toarray(), models[False].get_neuron_graph().adjacency.toarray()]
    np.testing.assert_array_equal(*adjacencies)
    z = {readable: model.get_activations() for readable, model in models.items()}
    penalty = GraphPenalty(adjacencies[0], "symmetric", "none", balance=1)
    rough = {readable: float(penalty(torch.from_numpy(values))) for readable, values in z.items()}
    assert rough[True] == pytest.approx(rough[False], rel=1e-3)
    if graph == "path":
        assert ((z[True] - z[True].mean(axis=0)) ** 3).sum() > ((z[False] - z[False].mean(axis=0)) ** 3).sum()
    else:  # each component follows one module and no other
        components = model_graph.modules
        mean = np.stack([z[True][:, components == k].mean(axis=1) for k in range(3)], axis=1)
        correlation = np.abs(np.corrcoef(mean.T, on.T)[:3, 3:])
        assert set(correlation.argmax(axis=1)) == {0, 1, 2}
        assert correlation.max(axis=1).min() > 0.95
        assert np.sort(correlation, axis=1)[:, 1].max() < 0.1
        mean = np.stack([z[False][:, components == k].mean(axis=1) for k in range(3)], axis=1)
        assert np.sort(np.abs(np.corrcoef(mean.T, on.T)[:3, 3:]), axis=1)[:, 1].max() > 0.2


def test_the_loss_is_that_of_the_task_plus_weight_times_penalty(modules):
    x, _ = modules
    model = fit(x[:64], max_epochs=1)
    module = model.module
    tensors = {"X": torch.from_numpy(x[:64].astype(np.float32))}
    plan = EpochTrainingPlan(module)
    callback = GraphRegularization("ring", 0.7, laplacian="unnormalized", normalize="none", noise=0, balance=0)
    start(callback, plan, tensors)
    loss = plan.training_step(tensors, 0)
    z = module.networks[0](tensors["X"], until="code")
    penalty = GraphPenalty(named_graph("ring", 15))(z)
    torch.testing.assert_close(loss, module(tensors)[2].loss + 0.7 * penalty)
    plan.validation_step(tensors, 0)

    # by default 3 % of the reconstruction loss
    callback.on_exception(None, plan, KeyboardInterrupt())
    assert plan.penalties == []
    start(GraphRegularization("ring"), plan, tensors)
    variance = GraphPenalty(named_graph("ring", 15), "symmetric", "variance", balance=1)(z)
    loss = plan.training_step(tensors, 0)
    torch.testing.assert_close(loss, module(tensors)[2].loss * (1 + 0.03 * variance))


def start(callback, plan, tensors):
    class Data:
        def train_dataloader(self):
            return [tensors]

    class Trainer:
        estimated_stepping_batches, global_step, datamodule = 10, 0, Data()

    callback.on_fit_start(Trainer, plan)
    callback.on_train_batch_start(Trainer, plan, tensors, 0)


def test_learned_graph_waits_is_rebuilt_and_freezes_in_components(modules):
    x, on = modules
    params = {"warmup": 300, "rebuild_every": 20, "normalize": "none", "n_neighbors": 3}
    model = fit(x, max_epochs=25, neuron_graph="learned", graph_weight=1.0, graph_params=params)
    history = model.get_neuron_graph().history
    assert history["step"].tolist() == list(range(300, 300 + 20 * len(history), 20))
    assert history["frozen"].tolist() == [False] * (len(history) - 1) + [True]
    assert history["n_components"].iloc[-1] == history["n_components"].iloc[-5] == 3
    assert np.isnan(history["changed"].iloc[0])
    assert history["changed"].iloc[1:].between(0, 1).all()
    penalty = model.history["graph_penalty_train"].iloc[:, 0].astype(float)
    assert (penalty.iloc[:2] == 0).all()
    assert penalty.iloc[-1] > 0
    assert group_purity(model.get_neuron_graph().modules, best_module(model.get_activations(), on)) == 1


def test_without_weight_training_is_what_it_was(modules):
    x, _ = modules
    plain, watched = (
        fit(x[:300], max_epochs=2, **arguments)
        for arguments in ({}, {"neuron_graph": "learned", "graph_weight": 0.0, "graph_params": {"rebuild_every": 2}})
    )
    np.testing.assert_allclose(plain.get_activations(), watched.get_activations(), rtol=1e-4, atol=1e-5)


def test_noise_only_while_training_and_behind_the_penalty():
    module = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    for of_input in (False, True):
        layer = WatchedLayer(module[0], 3.0, of_input)
        z = torch.ones(500, 4)
        noisy = module.train()(z)
        torch.testing.assert_close(layer.z, z)
        assert 2.8 < (noisy - z).std() < 3.2
        torch.testing.assert_close(module.eval()(z), z)
        layer.handle.remove()


def test_collapse_is_warned_of(modules):
    x, _ = modules
    arguments = {"neuron_graph": "ring", "graph_params": {"normalize": "none"}}
    with pytest.warns(
        UserWarning, match=r"layer 'code' have collapsed.* deviation over cells is 0.*weight=1000.0 is too"
    ):
        fit(x, max_epochs=20, graph_weight=1e3, **arguments)
    # of noise, which has nothing to hold
    with pytest.warns(
        UserWarning, match=r"hardly depends on them any more .*, if the default weight \(3% of the loss\)"
    ):
        fit(np.random.default_rng(0).normal(size=(64, 15)) * 1e-3, max_epochs=1, neuron_graph="ring")
    arguments["graph_params"] |= {"warmup": 240, "noise": 0}
    with pytest.warns(UserWarning, match="lost most of what it held before the penalty set in"):
        fit(x, max_epochs=14, graph_weight=1e6, **arguments)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*(collapsed|lost most).*")
        fit(x, max_epochs=5, neuron_graph="ring")


def test_any_module_of_scvi_tools(counts):
    SCVI.setup_anndata(counts)
    model = SCVI(counts, n_hidden=16, n_latent=4)
    model._training_plan_cls = EpochTrainingPlan
    callback = GraphRegularization("grid", 5.0, "decoder.px_scale_decoder", of_input=True)
    model.train(max_epochs=4, accelerator="cpu", enable_progress_bar=False, callbacks=[callback])
    assert callback.adjacency_["decoder.px_scale_decoder"].shape == (16, 16)
    penalty = model.history["graph_penalty_train"].iloc[:, 0].astype(float)
    assert penalty.iloc[-1] < penalty.iloc[0]
    assert not model.module.decoder.px_scale_decoder._forward_pre_hooks
    with pytest.raises(ValueError, match="layer 'decoder.px_scale' is not in the module.*did you mean"):
        find_layers(model.module, "decoder.px_scale")


def test_the_decoder_of_samsvae():
    adata = simulate_combinations(n_perturbations=5, n_doubles=6, n_latent=4, n_genes=40, n_cells=60, random_state=2)
    SAMSVAE.setup_anndata(adata, perturbation_key="perturbation", control="ctrl")
    penalties = {}
    for weight in (0.0, 30.0):
        scvi.settings.seed = 0
        model = SAMSVAE(adata, n_latent=4, n_hidden=36, n_particles=2)
        callback = GraphRegularization("grid", weight, "decoder.output", of_input=True)
        arguments = {"plan_kwargs": {"lr": 1e-2}, "accelerator": "cpu", "enable_progress_bar": False}
        model.train(max_steps=150, batch_size=128, callbacks=[callback], **arguments)
        penalties[weight] = float(model.history["graph_penalty_train"].iloc[-1, 0])
        assert callback.adjacency_["decoder.output"].shape == (36, 36)
    assert penalties[30.0] < 0.5 * penalties[0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": "gird"}, "graph 'gird' is not in what it can be .*did you mean 'grid'"),
        ({"graph": "grid", "weight": -1.0}, "weight=-1.0; it must be a number of at least 0"),
        ({"graph": "grid", "weight": float("nan")}, "weight=nan"),
        ({"graph": "grid", "normalize": "none"}, "weight must be given with normalize='none'"),
        ({"graph": "grid", "laplacian": "sym"}, "laplacian 'sym'"),
        ({"graph": "learned", "kernel": "cosine"}, "kernel 'cosine'"),
        ({"graph": "learned", "rebuild_every": 0}, "rebuild_every=0"),
        ({"graph": "learned", "min_correlation": 1.0}, r"min_correlation=1\.0; it must lie between -1 and 1"),
        ({"graph": "learned", "n_cells": 0}, "n_cells=0"),
        ({"graph": "grid", "noise": -0.1}, "noise=-0.1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GraphRegularization(**arguments)


def test_warmup_that_never_ends(modules):
    with pytest.raises(ValueError, match="warmup=1000 leaves none of the 10 training steps"):
        fit(modules[0][:64], max_epochs=10, neuron_graph="learned", graph_params={"warmup": 1000})


def test_the_penalty_of_validation_cells_is_logged(modules):
    scvi.settings.seed = 0
    adata = AnnData(modules[0][:300].astype(np.float32))
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata, hidden=(32,), n_latent=15, neuron_graph="ring", graph_weight=2.0)
    arguments = {"accelerator": "cpu", "enable_progress_bar": False, "check_val_every_n_epoch": 1}
    model.train(max_epochs=2, batch_size=300, train_size=0.5, **arguments)
    z = model.get_activations(indices=model.validation_indices)
    penalty = GraphPenalty(named_graph("ring", 15), "symmetric", "variance", balance=1)(torch.from_numpy(z))
    assert model.history["penalty_validation"].iloc[-1, 0] == pytest.approx(2 * float(penalty), rel=1e-4)
