import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scvi_neuronedit.nn import GraphPenalty, laplacian, named_graph

seeds = st.integers(0, 2**31 - 1)


def random_graph(seed, n=7):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.5), 1)
    return upper + upper.T, torch.from_numpy(rng.normal(size=(5, n)))


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_it_is_the_sum_over_edges(seed):
    adjacency, z = random_graph(seed)
    differences = (z[:, :, None] - z[:, None, :]).numpy() ** 2
    expected = (np.triu(adjacency, 1) * differences).sum(axis=(1, 2)).mean()
    np.testing.assert_allclose(GraphPenalty(adjacency)(z), expected, rtol=1e-5, atol=1e-9)

    root = np.sqrt(adjacency.sum(axis=1))
    scaled = z.numpy() / np.where(root > 0, root, 1)
    differences = (scaled[:, :, None] - scaled[:, None, :]) ** 2
    expected = (np.triu(adjacency, 1) * differences).sum(axis=(1, 2)).mean()
    np.testing.assert_allclose(GraphPenalty(adjacency, "symmetric")(z), expected, rtol=1e-5, atol=1e-9)


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_its_gradient_is_twice_the_laplacian_times_z(seed):
    adjacency, z = random_graph(seed)
    for kind in ("unnormalized", "symmetric", "random_walk"):
        z = z.detach().requires_grad_()
        GraphPenalty(adjacency, kind)(z).backward()
        matrix = laplacian(adjacency, kind).toarray()
        expected = z.detach().numpy() @ (matrix + matrix.T) / len(z)
        np.testing.assert_allclose(z.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["unnormalized", "random_walk"])
@pytest.mark.parametrize("normalize", ["none", "rayleigh", "variance"])
def test_constant_on_each_component_is_free(kind, normalize):
    penalty = GraphPenalty(named_graph("rings", 12, n_groups=3), kind, normalize, balance=1)
    z = torch.randn(20, 3).repeat_interleave(4, dim=1)
    assert penalty(z).abs() < 1e-6
    assert penalty(z + torch.arange(12) * torch.randn(20, 1)) > 1e-3


def test_laplacians_by_hand():
    path = np.array([[0, 2, 0], [2, 0, 1], [0, 1, 0]])
    np.testing.assert_allclose(laplacian(path).toarray(), [[2, -2, 0], [-2, 3, -1], [0, -1, 1]])
    np.testing.assert_allclose(laplacian(path, "random_walk").toarray(), [[1, -1, 0], [-2 / 3, 1, -1 / 3], [0, -1, 1]])
    a, b = -2 / np.sqrt(6), -1 / np.sqrt(3)
    np.testing.assert_allclose(laplacian(path, "symmetric").toarray(), [[1, a, 0], [a, 1, b], [0, b, 1]])


def test_neurons_without_neighbours_are_free():
    adjacency = np.zeros((3, 3))
    adjacency[0, 1] = adjacency[1, 0] = 1
    for kind in ("unnormalized", "symmetric", "random_walk"):
        matrix = laplacian(adjacency, kind).toarray()
        assert np.isfinite(matrix).all()
        assert (matrix[2] == 0).all()


def test_normalized_penalties_by_hand():
    adjacency = np.array([[0, 1], [1, 0]])
    z = torch.tensor([[3.0, 1], [1, 2]])
    torch.testing.assert_close(GraphPenalty(adjacency)(z), torch.tensor((4 + 1) / 2))
    torch.testing.assert_close(
        GraphPenalty(adjacency, normalize="rayleigh")(z), torch.tensor((4 / 10 + 1 / 5) / 2), rtol=1e-6, atol=0
    )
    # centred: (1, -1/2) and (-1, 1/2)
    torch.testing.assert_close(GraphPenalty(adjacency, normalize="variance")(z), torch.tensor(2.25 / 1.25))


def test_what_does_not_change_the_normalized_penalties():
    adjacency, z = random_graph(0)
    for normalize in ("rayleigh", "variance"):
        penalty = GraphPenalty(adjacency, "symmetric", normalize)
        torch.testing.assert_close(penalty(1e-3 * z), penalty(z), rtol=1e-4, atol=0)
    shifted = z + torch.randn(z.shape[1])
    penalty = GraphPenalty(adjacency, "symmetric", "variance")
    torch.testing.assert_close(penalty(shifted), penalty(z))
    # a large offset shared by all neurons fools the form of each cell
    penalty = GraphPenalty(adjacency, "unnormalized", "rayleigh")
    assert penalty(z + 100) < 1e-2 * penalty(z)


def test_balance_counts_the_shared_pattern_of_connected_graphs_only():
    path = named_graph("path", 4)
    z = torch.full((3, 4), 2.0)
    assert GraphPenalty(path)(z) == 0
    torch.testing.assert_close(GraphPenalty(path, balance=0.5)(z), torch.tensor(0.5 * 16))
    assert GraphPenalty(named_graph("paths", 4, n_groups=2), balance=0.5)(z) == 0
    smooth = torch.tensor([[-1.0, -1 / 3, 1 / 3, 1]])
    torch.testing.assert_close(GraphPenalty(path, balance=1)(smooth), GraphPenalty(path)(smooth))


def test_sparse_and_dense_agree():
    z = torch.randn(6, 400, requires_grad=True)
    grid = named_graph("grid", 400)
    wide = GraphPenalty(grid, "symmetric", "variance")
    assert wide.laplacian.is_sparse
    narrow = GraphPenalty(grid, "symmetric", "variance")
    narrow.laplacian = narrow.laplacian.to_dense()
    gradients = [torch.autograd.grad(penalty(z), z)[0] for penalty in (wide, narrow)]
    torch.testing.assert_close(wide(z), narrow(z))
    torch.testing.assert_close(*gradients)
    assert not GraphPenalty(named_graph("grid", 30)).laplacian.is_sparse
    assert not GraphPenalty(np.ones((300, 300)) - np.eye(300)).laplacian.is_sparse


def test_leading_dimensions_are_averaged_over():
    penalty = GraphPenalty(sparse.csr_array(named_graph("ring", 6)))
    z = torch.randn(4, 5, 6)
    torch.testing.assert_close(penalty(z), penalty(z.reshape(20, 6)))


def test_bad_arguments():
    with pytest.raises(ValueError, match="laplacian='heat' is not one of unnormalized"):
        GraphPenalty(np.zeros((2, 2)), "heat")
    with pytest.raises(ValueError, match="normalize='batch' is not one of none"):
        GraphPenalty(np.zeros((2, 2)), normalize="batch")
