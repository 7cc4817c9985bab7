"""Which of the equivalent layers is chosen, on patterns that are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from scvi_neuronedit.nn import GraphPenalty, named_graph, readable_axes

RNG = np.random.default_rng(0)


def penalty_of(name, n_neurons, kind="symmetric", balance=1.0, **arguments):
    return GraphPenalty(named_graph(name, n_neurons, **arguments), kind, "none", balance)


def third_moment(z):
    return ((z - z.mean(axis=0)) ** 3).sum()


@pytest.mark.parametrize("kind", ["unnormalized", "symmetric"])
def test_neurons_of_a_path_fire_where_they_stand(kind):
    """Smooth patterns of a line, all signs of them: the chosen ones are bumps, not valleys."""
    n, t = 12, RNG.random(1500)
    penalty = penalty_of("path", n, kind)
    _, patterns = np.linalg.eigh(penalty.roughness)
    # place fields: neuron i is active where t is i / (n - 1)
    fields = np.exp(-0.5 * ((t[:, None] * (n - 1) - np.arange(n)) / 2) ** 2)
    parts = (fields - fields.mean(axis=0)) @ patterns
    turned = (parts * RNG.choice([-1, 1], n)) @ patterns.T
    m = readable_axes(turned, penalty.roughness)
    np.testing.assert_allclose(m @ m.T, np.eye(n), atol=1e-10)
    z = turned @ m.T
    assert third_moment(z) >= 0.99 * third_moment(fields)
    assert abs(spearmanr(t[z.argmax(axis=0)], np.arange(n))[0]) > 0.97
    # up to which end is which
    alike = max(np.corrcoef(z.T, f.T)[:n, n:].diagonal().min() for f in (fields, fields[:, ::-1]))
    assert alike > 0.9


@pytest.mark.parametrize(("name", "balance"), [("path", 1.0), ("grid", 1.0), ("ring", 0.0), ("tree", 1.0)])
@pytest.mark.parametrize("kind", ["unnormalized", "symmetric", "random_walk"])
def test_the_penalty_of_every_cell_stays(name, balance, kind):
    penalty = penalty_of(name, 9, kind, balance)
    z = RNG.gamma(1.0, size=(300, 9))
    m = readable_axes(z, penalty.roughness)
    q, y = penalty.roughness, z @ m.T
    np.testing.assert_allclose((y @ q * y).sum(axis=1), (z @ q * z).sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(np.square(y).sum(axis=1), np.square(z).sum(axis=1))
    assert third_moment(y) >= third_moment(z) - 1e-9


def test_a_ring_keeps_its_phase():
    penalty = penalty_of("ring", 8)
    angle = 2 * np.pi * (RNG.random((500, 1)) - np.arange(8) / 8)
    z = np.cos(angle) + 0.5 * np.cos(2 * angle)
    np.testing.assert_allclose(readable_axes(z, penalty.roughness), np.eye(8), atol=1e-8)


def test_mixed_modules_are_unmixed():
    """Each of three components holds a mixture of three modules: afterwards each follows one."""
    on = (RNG.random((2000, 3)) < 0.5).astype(float)
    mixture = np.array([[1.0, 0.9, 0.1], [-0.8, 1.0, 0.3], [0.3, -0.2, 1.5]])
    groups = np.repeat([0, 1, 2], [4, 5, 2])
    z = (on @ mixture.T)[:, groups] + RNG.normal(0, 0.02, (2000, 11))
    adjacency = (groups[:, None] == groups) - np.eye(11)
    penalty = GraphPenalty(adjacency, "unnormalized")
    m = readable_axes(z, penalty.roughness)
    y = z @ m.T
    correlation = np.abs(np.corrcoef(y.T, on.T)[:11, 11:])
    assert correlation.max(axis=1).min() > 0.99
    assert np.sort(correlation, axis=1)[:, 1].max() < 0.1
    assert [len(set(correlation[groups == k].argmax(axis=1))) for k in range(3)] == [1, 1, 1]
    assert set(correlation.argmax(axis=1)) == {0, 1, 2}
    q = penalty.roughness
    np.testing.assert_allclose(m.T @ q @ m, q, atol=1e-6)  # the penalty stays
    np.testing.assert_allclose(np.linalg.inv(m) @ y.T, z.T, atol=1e-10)


def test_nothing_to_choose():
    penalty = GraphPenalty(named_graph("cliques", 6, n_groups=2))
    z = RNG.normal(size=(200, 6))
    z[:, 3:] = 1  # a component that says nothing
    np.testing.assert_array_equal(readable_axes(z, penalty.roughness), np.eye(6))
    np.testing.assert_array_equal(readable_axes(np.ones((200, 6)), penalty.roughness), np.eye(6))
    alone = GraphPenalty(np.zeros((6, 6))).roughness
    np.testing.assert_array_equal(readable_axes(RNG.normal(size=(200, 6)), alone), np.eye(6))
    path = penalty_of("path", 6).roughness
    np.testing.assert_allclose(readable_axes(np.ones((200, 6)), path), np.eye(6), atol=1e-10)
