import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scvi_neuronedit.nn import (
    GRAPHS,
    NeuronGraph,
    check_adjacency,
    coactivation_graph,
    graph_layout,
    graph_modules,
    most_square,
    named_graph,
)


def edges(adjacency):
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(adjacency.toarray())), strict=True)}


@given(name=st.sampled_from(GRAPHS), n=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_named_graphs_are_simple(name, n):
    adjacency = named_graph(name, n)
    assert adjacency.shape == (n, n)
    np.testing.assert_array_equal(adjacency.toarray(), adjacency.toarray().T)
    assert (adjacency.diagonal() == 0).all()
    assert set(np.unique(adjacency.toarray())) <= {0, 1}
    layout = graph_layout(adjacency, name)
    assert layout.shape == (n, 2)
    assert len(np.unique(layout.round(6), axis=0)) == n


def test_named_graphs_by_hand():
    assert edges(named_graph("path", 4)) == {(0, 1), (1, 2), (2, 3)}
    assert edges(named_graph("ring", 4)) == {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert edges(named_graph("grid", 6)) == {(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)}
    assert edges(named_graph("torus", 9)) - edges(named_graph("grid", 9)) == {
        (0, 2),
        (3, 5),
        (6, 8),
        (0, 6),
        (1, 7),
        (2, 8),
    }
    assert edges(named_graph("paths", 5, n_groups=2)) == {(0, 1), (1, 2), (3, 4)}
    assert edges(named_graph("rings", 6, n_groups=2)) == {(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)}
    assert edges(named_graph("cliques", 4, n_groups=2)) == {(0, 1), (2, 3)}
    assert edges(named_graph("tree", 7)) == {(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6)}
    assert edges(named_graph("wishbone", 6)) == {(0, 1), (1, 2), (2, 3), (1, 4), (4, 5)}


def test_shapes():
    assert most_square(12) == (3, 4)
    assert most_square(13) == (1, 13)
    assert edges(named_graph("grid", 4, shape=(1, 4))) == edges(named_graph("path", 4))
    np.testing.assert_array_equal(graph_layout(named_graph("grid", 4), "grid"), [[0, 0], [1, 0], [0, -1], [1, -1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "star"}, "graph 'star' is not one of path, ring"),
        ({"name": "grid", "shape": (2, 4)}, r"shape=\(2, 4\) does not hold the 6 neurons"),
        ({"name": "path", "shape": (2, 3)}, "only 'grid' and 'torus' have a shape"),
        ({"name": "cliques", "n_groups": 7}, "n_groups=7 for a 'cliques' of 6 neurons"),
        ({"name": "grid", "n_groups": 2}, "n_groups=2 for a 'grid'"),
    ],
)
def test_bad_graphs(arguments, message):
    with pytest.raises(ValueError, match=message):
        named_graph(n_neurons=6, **arguments)


@pytest.mark.parametrize(
    ("adjacency", "message"),
    [
        (np.ones((2, 3)), r"adjacency of shape \(2, 3\) is not square; the layer has 3 neurons"),
        (np.ones((2, 2)), r"\(2, 2\) is of another size than the layer"),
        (-np.ones((3, 3)), r"negative weights \(such as -1\)"),
        (np.full((3, 3), np.nan), "NaN or infinite"),
        (np.array([[0, 1, 0], [0.5, 0, 0], [0, 0, 0]]), r"not symmetric: entry \(0, 1\) is 1, \(1, 0\) is 0.5"),
    ],
)
def test_bad_adjacency(adjacency, message):
    with pytest.raises(ValueError, match=message):
        check_adjacency(adjacency, 3)


def test_adjacency_loses_its_diagonal_and_nothing_else():
    given_ = np.array([[5.0, 1], [1, 0]])
    checked = check_adjacency(sparse.csc_matrix(given_), 2)
    np.testing.assert_array_equal(checked.toarray(), [[0, 1], [1, 0]])
    assert given_[0, 0] == 5


# learned graphs ------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), kernel=st.sampled_from(["knn", "gaussian", "adaptive"]), k=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_learned_graphs_are_symmetric_without_loops(seed, kernel, k):
    activations = np.random.default_rng(seed).normal(size=(30, 8))
    adjacency = coactivation_graph(activations, kernel, k)
    np.testing.assert_allclose(adjacency.toarray(), adjacency.toarray().T)
    assert (adjacency.diagonal() == 0).all()
    assert adjacency.min() >= 0
    assert adjacency.max() <= 1
    # neither the number of cells nor scales matter
    scaled = np.tile(activations, (3, 1)) * np.arange(1, 9) + 5
    np.testing.assert_allclose(coactivation_graph(scaled, kernel, k).toarray(), adjacency.toarray(), atol=1e-6)


def test_kernels_by_hand():
    # one cell: neurons on a line at 0, 1 and 3
    z = np.array([[0.0, 1, 3]])
    knn = coactivation_graph(z, "knn", 1, standardize=False)
    np.testing.assert_allclose(knn.toarray(), [[0, 1, 0], [1, 0, 0.5], [0, 0.5, 0]])
    adaptive = coactivation_graph(z, "adaptive", 1, standardize=False).toarray()
    np.testing.assert_allclose(adaptive[0, 1], np.exp(-1))
    np.testing.assert_allclose(adaptive[1, 2], (np.exp(-4) + np.exp(-1)) / 2)
    assert adaptive[0, 2] == 0.5 * (np.exp(-9) + np.exp(-9 / 4)) * (0.5 * (np.exp(-9) + np.exp(-9 / 4)) >= 0.1)
    gaussian = coactivation_graph(z, "gaussian", 1, standardize=False).toarray()
    np.testing.assert_allclose(gaussian[0, 1], np.exp(-1 / 2))  # the median distance to the nearest is 1
    np.testing.assert_allclose(gaussian[1, 2], np.exp(-4 / 2))


def test_groups_of_neurons_become_components_and_dead_neurons_have_no_edges(rng):
    signals = np.repeat(rng.normal(size=(500, 3)), 4, axis=1)
    z = np.column_stack([signals + 0.01 * rng.normal(size=signals.shape), np.ones(500)])
    graph = coactivation_graph(z, "knn", 3)
    modules = graph_modules(graph, z)
    np.testing.assert_array_equal(modules, [*np.repeat([0, 1, 2], 4), 3])
    assert graph[12].nnz == 0
    assert coactivation_graph(np.ones((4, 3))).nnz == 0


def test_neurons_that_are_not_alike_are_not_joined(rng):
    first, second = rng.normal(size=(2, 2000, 1))
    z = np.hstack([first, first, second, -first])
    z = z + 0.05 * rng.normal(size=z.shape)
    z[:, 2] += z[:, 0]  # correlation 0.7
    assert edges(coactivation_graph(z, "knn", 3, min_correlation=0)) == {(0, 1), (0, 2), (1, 2)}
    for kernel in ("knn", "gaussian", "adaptive"):
        assert edges(coactivation_graph(z, kernel, 3, min_correlation=0.8)) == {(0, 1)}
    assert (2, 3) in edges(coactivation_graph(z, "knn", 3))
    with pytest.raises(ValueError, match="min_correlation=1; it must lie between -1 and 1"):
        coactivation_graph(z, min_correlation=1)


def test_a_map_is_cut_where_neighbours_do_not_agree(rng):
    first, second = rng.normal(size=(2, 200, 1))
    z = np.hstack([first.repeat(6, axis=1), second.repeat(6, axis=1)])
    ring = named_graph("ring", 12)
    modules = graph_modules(ring, z, resolution=0.5)
    assert set(modules[:6]).isdisjoint(modules[6:])


def test_bad_learned_graphs(rng):
    with pytest.raises(ValueError, match="kernel='cosine' is not one of knn"):
        coactivation_graph(rng.normal(size=(3, 3)), "cosine")
    with pytest.raises(ValueError, match="n_neighbors=0"):
        coactivation_graph(rng.normal(size=(3, 3)), n_neighbors=0)


def test_neuron_graph_orders_along_the_graph(rng):
    shuffled = rng.permutation(8)
    graph = nx.relabel_nodes(nx.path_graph(8), dict(enumerate(shuffled)))
    adjacency = sparse.csr_array(nx.to_scipy_sparse_array(graph, nodelist=range(8)))
    neurons = NeuronGraph("code", "adjacency", adjacency, np.zeros((8, 2)), np.zeros(8, int), None)
    order = neurons.order.tolist()
    assert order in (shuffled.tolist(), shuffled[::-1].tolist())
    assert "8 neurons, 7 edges, 1 components, 1 modules" in repr(neurons)
