import numpy as np
import pandas as pd
import pytest
import scvi
import torch

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.nn import named_graph

SETUP = {"condition_key": "condition", "labels_key": "cell_type"}


def make(adata, **kwargs):
    NeuronEdit.setup_anndata(adata, **SETUP)
    return NeuronEdit(adata, n_latent=6, hidden=(16,), **kwargs)


@pytest.fixture(scope="module")
def grid_model(simulated):
    scvi.settings.seed = 0
    adata = simulated.copy()
    model = make(adata, neuron_graph="grid", graph_weight=5.0)
    model.train(max_epochs=10, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    return model


def test_graph_of_training_is_kept_saved_and_loaded(grid_model, tmp_path):
    graph = grid_model.get_neuron_graph()
    assert (graph.layer, graph.graph, graph.n_components) == ("code", "grid", 1)
    np.testing.assert_array_equal(graph.adjacency.toarray(), named_graph("grid", 6).toarray())
    np.testing.assert_array_equal(graph.layout, [[0, 0], [1, 0], [2, 0], [0, -1], [1, -1], [2, -1]])
    grid_model.save(tmp_path / "model")
    loaded = NeuronEdit.load(tmp_path / "model", grid_model.adata).get_neuron_graph()
    assert repr(loaded) == repr(graph)
    np.testing.assert_array_equal(loaded.modules, graph.modules)
    # a layer without a graph is given one afterwards
    other = grid_model.get_neuron_graph(layer="encoder_1")
    assert (other.graph, other.n_neurons) == ("learned afterwards", 16)


def test_what_is_written(grid_model):
    adata = grid_model.adata.copy()[:, ::-1].copy()
    graph = grid_model.get_neuron_graph(adata, key_added="neurons")
    np.testing.assert_allclose(adata.obsm["X_neurons"], grid_model.get_activations(adata))
    np.testing.assert_array_equal(adata.uns["neurons"]["modules"], graph.modules)
    programs = grid_model.get_neuron_modules(adata, key_added="neurons")
    x, z = adata.X.toarray().astype(float), adata.obsm["X_neurons"].astype(float)
    expected = np.corrcoef(x.T, z.T)[: adata.n_vars, adata.n_vars :]
    np.testing.assert_allclose(adata.varm["neurons_correlation"], expected, atol=1e-4)
    activity = z / z.std(axis=0)
    for k in range(graph.n_modules):
        mean = activity[:, graph.modules == k].mean(axis=1)
        expected = np.corrcoef(x.T, mean)[-1, :-1]
        np.testing.assert_allclose(adata.varm["neurons_module_correlation"][:, k], expected, atol=1e-4)
    best = programs[(programs["level"] == "neuron") & (programs["number"] == 2) & (programs["rank"] == 1)].iloc[0]
    assert best["gene"] == adata.var_names[adata.varm["neurons_correlation"][:, 2].argmax()]
    top = grid_model.get_neuron_modules(n_genes=3)
    assert top.groupby(["level", "number"]).size().eq(3).all()
    assert not {"neurons_correlation"} & set(grid_model.adata.varm)


def test_jacobian_by_finite_differences(grid_model):
    adata = grid_model.adata.copy()
    grid_model.get_neuron_modules(adata, key_added="n")
    z = grid_model.get_activations(indices=np.unique(np.linspace(0, adata.n_obs - 1, 500).astype(int)))
    sd = grid_model.get_activations().std(axis=0)
    network, step = grid_model.module.networks[0], 1e-2
    with torch.no_grad():
        for j in range(z.shape[1]):
            moved = [z + sign * step * np.eye(6, dtype=np.float32)[j] for sign in (1, -1)]
            high, low = (network(torch.from_numpy(m), after="code").numpy().mean(axis=0) for m in moved)
            np.testing.assert_allclose(adata.varm["n_jacobian"][:, j], (high - low) / 2 / step * sd[j], atol=5e-3)


def test_shifts_are_those_of_the_edit(grid_model):
    edit = grid_model.learn_edit("ctrl", "stim", "mean", match_labels=False)
    query = {"condition": "ctrl", "cell_type": "type_1"}
    shifts = grid_model.get_neuron_shifts(edit, query=query)
    z, condition = grid_model.get_activations(), grid_model.adata.obs["condition"]
    expected = z[condition == "stim"].mean(axis=0) - z[condition == "ctrl"].mean(axis=0)
    np.testing.assert_allclose(shifts["shift"], expected, atol=1e-4)
    np.testing.assert_allclose(shifts["after"] - shifts["before"], expected, atol=1e-4)
    np.testing.assert_allclose(shifts["shift_sd"], expected / z.std(axis=0), atol=1e-4)
    moved = np.abs(expected) > 0.1 * z.std(axis=0)
    np.testing.assert_allclose(shifts["share_moved"], moved, atol=1e-6)


def test_several_networks_each_have_a_graph(adata):
    model = make(adata, neuron_graph="learned", n_networks=2, graph_params={"n_neighbors": 2, "rebuild_every": 5})
    model.train(max_epochs=3, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    assert set(model.neuron_graph_["adjacency"]) == {"code/1", "code/2"}
    assert model.get_neuron_graph().layer == "code/1"
    second = model.get_neuron_graph(layer="code/2")
    assert second.graph == "learned"
    assert (second.history["layer"] == "code/2").all()
    assert isinstance(model.get_neuron_modules(layer="code/2", n_genes=2), pd.DataFrame)


def test_counts(counts):
    model = make(counts, neuron_graph="ring", likelihood="nb", graph_layer="decoder_1")
    model.train(max_epochs=3, accelerator="cpu", enable_progress_bar=False)
    assert model.get_neuron_graph().layer == "decoder_1"
    assert np.isfinite(model.get_neuron_modules(n_genes=5)[["correlation", "jacobian"]]).all(axis=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neuron_graph": "gird"}, "graph 'gird'.*did you mean 'grid'"),
        ({"neuron_graph": np.ones((5, 5))}, r"shape \(5, 5\) is of another size than the layer; the layer has 6"),
        ({"neuron_graph": np.ones((5, 6))}, r"shape \(5, 6\) is not square"),
        ({"neuron_graph": np.triu(np.ones((6, 6)))}, "not symmetric"),
        ({"neuron_graph": -np.ones((6, 6))}, "negative weights"),
        ({"neuron_graph": "grid", "graph_weight": -1}, "weight=-1; it must be a number of at least 0"),
        (
            {"neuron_graph": "grid", "graph_layer": "decoder"},
            "layer 'decoder' is not in the network .*did you mean 'decoder_1'",
        ),
        ({"neuron_graph": "grid", "graph_params": {"shape": (4, 4)}}, r"shape=\(4, 4\) does not hold the 6 neurons"),
        ({"graph_weight": 1.0}, "no effect without neuron_graph"),
    ],
)
def test_bad_input(adata, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(adata, **arguments)
