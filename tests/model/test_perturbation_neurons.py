import numpy as np
import pytest
import scvi
import torch

from scvi_neuronedit import CPAVAE, SAMSVAE, ConditionalVAE, SVAEPlus
from scvi_neuronedit.datasets import simulate_combinations
from scvi_neuronedit.metrics import morans_i
from scvi_neuronedit.nn import named_graph
from scvi_neuronedit.train import DASHPruning

SMALL = {"n_latent": 4, "n_hidden": 36, "n_particles": 2}
FAST = {"batch_size": 128, "plan_kwargs": {"lr": 1e-2}, "accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def simulation():
    adata = simulate_combinations(n_perturbations=5, n_doubles=6, n_latent=4, n_genes=40, n_cells=60, random_state=2)
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    return adata


def fit(adata, cls=SAMSVAE, max_steps=150, **arguments):
    scvi.settings.seed = 0
    adata = adata.copy()
    cls.setup_anndata(adata, perturbation_key="perturbation", control="ctrl", batch_key="batch")
    model = cls(adata, **SMALL, **arguments)
    model.train(max_steps=max_steps, **FAST)
    return model


def smoothness(model, **arguments):
    return np.nanmean(morans_i(model.get_activations(**arguments), named_graph("grid", 36)))


@pytest.fixture(scope="module")
def grid_model(simulation):
    return fit(simulation, n_layers=2, neuron_graph="grid", graph_weight=30.0)


def test_the_last_hidden_layer_of_the_decoder_becomes_a_map(grid_model, simulation):
    graph = grid_model.get_neuron_graph()
    assert (graph.layer, graph.graph, graph.n_neurons) == ("decoder_2", "grid", 36)
    plain = fit(simulation, n_layers=2)
    assert plain.get_neuron_graph().graph == "learned afterwards"
    assert smoothness(plain) < 0.2
    assert smoothness(grid_model) > 0.5
    assert smoothness(grid_model, layer="decoder_1") < 0.2  # a free layer


def test_activations_are_those_of_the_decoder(grid_model):
    model, module = grid_model, grid_model.module.eval()
    seen = []
    handle = module.decoder.output.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    dosage = torch.from_numpy(model.adata.obsm["_scvi_dosage"][:7].toarray())
    batch = torch.from_numpy(model.adata.obs["_scvi_batch"].to_numpy()[:7, None].astype(np.float32))
    z = torch.from_numpy(model.get_latent_representation(with_effect=True)[:7])
    with torch.no_grad():
        output = module.decode(z, dosage, batch)
    handle.remove()
    activations = model.get_activations(indices=np.arange(7))
    np.testing.assert_allclose(activations, seen[0].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.get_activations(indices=[6, 2], batch_size=1), activations[[6, 2]], atol=1e-5)
    assert model.get_activations(indices=[]).shape == (0, 36)
    decoded = module.decode_activations(torch.from_numpy(activations), "decoder_2").detach()
    torch.testing.assert_close(decoded, output, rtol=1e-4, atol=1e-4)


def test_genes_of_neurons_and_modules(grid_model):
    adata = grid_model.adata.copy()[:, ::-1].copy()
    graph = grid_model.get_neuron_graph(adata, key_added="neurons")
    np.testing.assert_allclose(adata.obsm["X_neurons"], grid_model.get_activations(adata), atol=1e-5)
    programs = grid_model.get_neuron_modules(adata, key_added="neurons")
    assert programs.groupby(["level", "number"]).ngroups == 36 + graph.n_modules
    z, x = adata.obsm["X_neurons"].astype(float), np.log1p(adata.X.toarray().astype(float))
    np.testing.assert_allclose(
        adata.varm["neurons_correlation"][3], [np.corrcoef(x[:, 3], neuron)[0, 1] for neuron in z.T], atol=1e-4
    )
    # the output layer is linear
    weight = grid_model.module.decoder.output.weight.detach().numpy()[::-1]
    np.testing.assert_allclose(adata.varm["neurons_jacobian"], weight * z.std(axis=0), rtol=1e-3, atol=1e-4)


def test_graph_of_training_is_kept_saved_and_loaded(grid_model, tmp_path):
    grid_model.save(tmp_path / "model")
    loaded = SAMSVAE.load(tmp_path / "model", grid_model.adata)
    graph = loaded.get_neuron_graph()
    assert repr(graph) == repr(grid_model.get_neuron_graph())
    np.testing.assert_allclose(loaded.get_activations(), grid_model.get_activations(), atol=1e-6)
    loaded.train(max_steps=5, **FAST)
    assert loaded.get_neuron_graph().graph == "grid"


@pytest.mark.parametrize("cls", [SAMSVAE, CPAVAE, SVAEPlus, ConditionalVAE])
def test_every_model_of_perturbations(simulation, cls):
    params = {"warmup": 10, "rebuild_every": 5, "n_neighbors": 2}
    model = fit(simulation, cls, 30, neuron_graph="learned", graph_params=params, graph_layer="decoder_1")
    graph = model.get_neuron_graph()
    assert (graph.layer, graph.graph) == ("decoder_1", "learned")
    assert graph.history["step"].iloc[0] == 10
    assert np.isfinite(model.get_neuron_modules(n_genes=2)[["correlation", "jacobian"]]).all(axis=None)


def test_a_pruned_map_is_saved(simulation, tmp_path):
    scvi.settings.seed = 0
    SAMSVAE.setup_anndata(simulation, perturbation_key="perturbation", control="ctrl")
    model = SAMSVAE(simulation, neuron_graph="grid", graph_weight=30.0, **SMALL)
    pruning = DASHPruning(0, start=2, first=0.5, every=None)
    model.train(max_epochs=25, train_size=0.8, callbacks=[pruning], **FAST)
    assert (model.module.decoder.output.weight_mask == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    assert smoothness(model) > 0.3
    model.save(tmp_path / "model")
    loaded = SAMSVAE.load(tmp_path / "model", simulation)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.get_neuron_graph().graph == "grid"


def test_continuous_values_need_a_weight(simulation):
    adata = simulation.copy()
    adata.X = np.log1p(adata.X.toarray())
    SAMSVAE.setup_anndata(adata, perturbation_key="perturbation", control="ctrl")
    with pytest.raises(ValueError, match="graph_weight must be given with likelihood='normal'"):
        SAMSVAE(adata, likelihood="normal", neuron_graph="grid", **SMALL)
    model = SAMSVAE(adata, likelihood="normal", neuron_graph="grid", graph_weight=1.0, **SMALL)
    model.train(max_steps=5, **FAST)
    assert model.get_neuron_graph().graph == "grid"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neuron_graph": "gird"}, "graph 'gird'.*did you mean 'grid'"),
        ({"neuron_graph": np.ones((5, 5))}, r"shape \(5, 5\) is of another size than the layer; the layer has 36"),
        ({"neuron_graph": "grid", "graph_weight": -1}, "weight=-1; it must be a number of at least 0"),
        ({"neuron_graph": "grid", "graph_layer": "decoder_2"}, "layer 'decoder_2' is not in the decoder"),
        ({"neuron_graph": "grid", "graph_params": {"shape": (4, 4)}}, r"shape=\(4, 4\) does not hold the 36 neurons"),
        ({"graph_weight": 1.0}, "no effect without neuron_graph"),
    ],
)
def test_bad_input(simulation, arguments, message):
    adata = simulation.copy()
    SAMSVAE.setup_anndata(adata, perturbation_key="perturbation", control="ctrl")
    with pytest.raises(ValueError, match=message):
        SAMSVAE(adata, **SMALL, **arguments)
