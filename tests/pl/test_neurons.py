import numpy as np
import pytest
from matplotlib import pyplot as plt

from scvi_neuronedit.nn import graph_layout, named_graph
from scvi_neuronedit.pl import (
    draw_neurons,
    edit_on_map,
    loss_against_weight,
    neuron_heatmap,
    neuron_map,
    neuron_programs,
)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def neurons(model):
    adata = model.adata.copy()
    return adata, model.get_neuron_graph(adata, key_added="neurons")


def colours(figure):
    return {ax.get_title(): np.asarray(ax.collections[1].get_array()) for ax in figure.axes if ax.get_title()}


def test_map_shows_the_mean_of_each_group(neurons, tmp_path):
    adata, graph = neurons
    figure = neuron_map(adata, "cell_type", save=tmp_path / "map.png")
    z = adata.obsm["X_neurons"]
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    shown = colours(figure)
    assert set(shown) == set(adata.obs["cell_type"])
    for group, values in shown.items():
        np.testing.assert_allclose(values, z[adata.obs["cell_type"] == group].mean(axis=0), atol=1e-4)
    positions = figure.axes[0].collections[1].get_offsets()
    np.testing.assert_allclose(positions, graph.layout)
    assert (tmp_path / "map.png").stat().st_size > 0
    np.testing.assert_allclose(colours(neuron_map(adata))["all cells"], adata.obsm["X_neurons"].mean(axis=0), rtol=1e-4)


def test_an_edit_on_the_map(model):
    edit = model.learn_edit("ctrl", "stim", "mean")
    query = {"condition": "ctrl", "cell_type": "type_4"}
    shown = colours(edit_on_map(model, edit, query=query))
    assert list(shown) == ["before", "after", "shift"]
    np.testing.assert_allclose(shown["after"] - shown["before"], shown["shift"], atol=1e-4)
    np.testing.assert_allclose(shown["shift"], model.get_neuron_shifts(edit, query=query)["shift_sd"])
    by_type = colours(edit_on_map(model, edit, query={"condition": "ctrl"}, groupby="cell_type"))
    np.testing.assert_allclose(by_type["type_4"], shown["shift"])
    two = {"condition": "ctrl", "cell_type": ["type_1", "type_4"]}
    assert list(colours(edit_on_map(model, edit, query=two, groupby="cell_type"))) == ["type_1", "type_4"]
    by_condition = colours(edit_on_map(model, edit, query={"cell_type": "type_4"}, groupby="condition"))
    assert list(by_condition) == ["ctrl"]  # the other has no such cell
    with pytest.raises(TypeError, match="query='ctrl' with groupby='cell_type'"):
        edit_on_map(model, edit, query="ctrl", groupby="cell_type")


def test_heat_map_is_in_graph_order(neurons):
    adata, graph = neurons
    adata.obs["time"] = np.arange(adata.n_obs)[::-1]
    ax = neuron_heatmap(adata, graph, "cell_type", sort_by="time", n_cells=10**6)
    z = adata.obsm["X_neurons"]
    z = ((z - z.mean(axis=0)) / z.std(axis=0))[:, graph.order]
    is_first = (adata.obs["cell_type"] == "type_1").to_numpy()
    np.testing.assert_allclose(ax.images[0].get_array()[: is_first.sum()], z[is_first][::-1], atol=1e-4)
    assert [label.get_text() for label in ax.get_yticklabels()] == sorted(adata.obs["cell_type"].unique())


def test_programs_show_the_first_genes(model):
    programs = model.get_neuron_modules()
    ax = neuron_programs(programs, n_genes=2)
    best = programs[(programs["level"] == "module") & (programs["rank"] <= 2)]
    assert {label.get_text() for label in ax.get_yticklabels()} == set(best["gene"])
    with pytest.raises(ValueError, match="level='modules' is not among the programs"):
        neuron_programs(programs, level="modules")


def test_loss_against_weight():
    ax = loss_against_weight([1, 0, 10], [[2.0, 4], [1, 1], [5, 7]], [0.5, 0.1, 0.9])
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 1], [1, 3], [10, 6]])


def test_edges_around_a_torus_are_not_drawn():
    torus = named_graph("torus", 25)
    ax = draw_neurons(torus, graph_layout(torus, "torus"), np.arange(25))
    assert len(ax.collections[0].get_segments()) == named_graph("grid", 25).nnz / 2


def test_bad_input(neurons):
    adata, _ = neurons
    with pytest.raises(KeyError, match=r"key='other'.*get_neuron_graph\(key_added='other'\)"):
        neuron_map(adata, key="other")
    with pytest.raises(KeyError, match="groupby='batch' is not in adata.obs"):
        neuron_map(adata, "batch")
    with pytest.raises(ValueError, match=r"values of shape \(3,\) for 4 neurons"):
        draw_neurons(np.zeros((4, 4)), np.zeros((4, 2)), [1, 2, 3])
