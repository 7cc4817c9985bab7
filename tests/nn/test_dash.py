"""Scores against cases worked out by hand, and against the equations written with explicit inverses."""

import numpy as np
import pytest
import torch
from torch import nn

from scvi_neuronedit.nn import WeightChain, dash_scores

P = torch.tensor([[1.0, 0.0], [0.0, -3.0]], dtype=torch.float64)
W = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)


def left_inverse(x):
    return torch.linalg.inv(x.T @ x) @ x.T


def right_inverse(x):
    return x.T @ torch.linalg.inv(x @ x.T)


@pytest.mark.parametrize(
    ("lam", "scaling", "expected"),
    [
        # weights sum to 4, the prior to 4
        (0.0, "paper", [[0.25, 0.5], [0.0, 0.25]]),
        (0.0, "balanced", [[0.25, 0.5], [0.0, 0.25]]),
        (1.0, "paper", [[1.0, 0.0], [0.0, 3.0]]),
        (1.0, "balanced", [[0.25, 0.0], [0.0, 0.75]]),
        (0.2, "paper", [[0.8 * 0.25 + 0.2, 0.4], [0.0, 0.8 * 0.25 + 0.6]]),
        (0.2, "balanced", [[0.25, 0.4], [0.0, 0.8 * 0.25 + 0.2 * 0.75]]),
    ],
)
def test_one_layer_by_hand(lam, scaling, expected):
    (score,) = dash_scores([W], [torch.ones(2, 2)], [lam], P, scaling=scaling)
    np.testing.assert_allclose(score, expected)


def test_two_layers_by_hand():
    # Omega_1(t-1) = diag(2, 1), so (Omega^T)^+ C is C (sum 2) / 2 with its first row halved
    previous = [torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64)), torch.zeros(2, 2, dtype=torch.float64)]
    c = torch.eye(2, dtype=torch.float64)
    first, second = dash_scores([W, W], previous, [1.0, 1.0], P, c, scaling="paper")
    np.testing.assert_allclose(first, [[0.25, 0.0], [0.0, 0.5]], atol=1e-12)
    # Omega_2 = |P Omega_1(t)^+| with the new Omega_1
    np.testing.assert_allclose(second, [[4.0, 0.0], [0.0, 6.0]], atol=1e-12)
    balanced, _ = dash_scores([W, W], previous, [1.0, 1.0], P, c, scaling="balanced")
    np.testing.assert_allclose(balanced, [[1 / 3, 0.0], [0.0, 2 / 3]], atol=1e-12)


@pytest.fixture
def chain_of_two():
    generator = torch.Generator().manual_seed(0)
    k, m, r = 7, 3, 5
    shapes = [(m, k), (r, m)]
    importances = [torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes]
    previous = [torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes]
    p = (torch.rand(r, k, generator=generator, dtype=torch.float64) < 0.3).double()
    return importances, previous, p, p.T @ p


@pytest.mark.parametrize("scaling", ["paper", "balanced"])
def test_two_layers_follow_the_equations(chain_of_two, scaling):
    (w1, w2), (omega1, _), p, c = chain_of_two
    first, second = dash_scores([w1, w2], chain_of_two[1], [0.3, 0.6], p, c, scaling=scaling)

    def scale(x):
        return x if scaling == "paper" else x / x.sum()

    expected = 0.7 * w1 / w1.sum() + 0.3 * scale((left_inverse(omega1.T) @ (c / c.sum())).abs())
    np.testing.assert_allclose(first, expected, rtol=1e-8)
    expected = 0.4 * w2 / w2.sum() + 0.6 * scale((p @ right_inverse(expected)).abs())
    np.testing.assert_allclose(second, expected, rtol=1e-8)


def test_two_layers_without_an_input_prior_use_the_layer_behind(chain_of_two):
    (w1, w2), (_, omega2), p, _ = chain_of_two
    first, _ = dash_scores([w1, w2], chain_of_two[1], [1.0, 1.0], p, scaling="paper")
    np.testing.assert_allclose(first, (left_inverse(omega2) @ p).abs(), rtol=1e-8)


def test_three_layers_follow_the_equations():
    generator = torch.Generator().manual_seed(1)
    shapes = [(3, 6), (3, 3), (5, 3)]  # widths at which all products have full rank
    importances = [torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes]
    previous = [torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes]
    p = torch.rand(5, 6, generator=generator, dtype=torch.float64)
    lambdas = [0.2, 0.5, 1.0]
    first, second, third = dash_scores(importances, previous, lambdas, p, scaling="paper")
    w = [x / x.sum() for x in importances]
    expected1 = 0.8 * w[0] + 0.2 * (left_inverse(previous[2] @ previous[1]) @ p).abs()
    np.testing.assert_allclose(first, expected1, rtol=1e-7)
    expected2 = 0.5 * w[1] + 0.5 * (left_inverse(previous[2]) @ p @ right_inverse(expected1)).abs()
    np.testing.assert_allclose(second, expected2, rtol=1e-7)
    expected3 = (p @ right_inverse(expected2 @ expected1)).abs()
    np.testing.assert_allclose(third, expected3, rtol=1e-7)


def test_products_without_full_rank_have_scores():
    shapes = [(2, 6), (4, 2), (5, 4)]
    scores = dash_scores([torch.ones(s) for s in shapes], [torch.ones(s) for s in shapes], [0.5] * 3, torch.ones(5, 6))
    assert all(torch.isfinite(score).all() and score.shape == s for score, s in zip(scores, shapes, strict=True))


def test_balanced_scores_sum_to_one(chain_of_two):
    importances, previous, p, c = chain_of_two
    for score in dash_scores(importances, previous, [0.3, 0.9], p, c, scaling="balanced"):
        assert float(score.sum()) == pytest.approx(1)


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.clone().float()
    return layer


def test_magnitude_and_prior_only_are_special_cases():
    weight = torch.tensor([[0.1, -4.0, 0.2, 3.0]])
    prior = torch.tensor([[1.0, 0.0, 2.0, 0.0]])
    for lam, kept in ((0.0, [1, 3]), (1.0, [0, 2])):
        layer = linear(weight)
        WeightChain((layer,), prior).prune(0.5, (lam,))
        assert layer.weight_mask.nonzero()[:, 1].tolist() == kept


def test_the_second_score_starts_from_the_first():
    torch.manual_seed(0)
    layers = nn.Linear(6, 3), nn.Linear(3, 4)
    p = (torch.rand(4, 6) < 0.5).double()
    chain = WeightChain(layers, p, p.T @ p)
    first = chain.score((0.5, 0.5), "paper")[0]
    second = chain.score((0.5, 0.5), "paper")[0]
    w = layers[0].weight.detach().double().abs()
    c = (p.T @ p) / (p.T @ p).sum()
    np.testing.assert_allclose(second, 0.5 * w / w.sum() + 0.5 * (left_inverse(first.T) @ c).abs(), rtol=1e-6)


def test_only_prunable_weights_are_removed():
    layer = linear(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    chain = WeightChain((layer,), prunable=torch.tensor([[False, False], [True, True]]))
    chain.prune(0.5, (0.0,))
    assert layer.weight_mask.tolist() == [[1, 1], [0, 1]]
    assert chain.sparsity == 0.5
    assert chain.n_weights == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": torch.ones(3, 2)}, r"prior has shape \(3, 2\); the layers need \(2, 4\)"),
        ({"prior": torch.full((2, 4), torch.nan)}, "prior holds NaN"),
        ({"input_prior": torch.ones(2, 2)}, r"input_prior has shape \(2, 2\)"),
        ({"prunable": torch.ones(3, 4, dtype=torch.bool)}, "for a single layer"),
    ],
)
def test_bad_chains_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WeightChain((nn.Linear(4, 3), nn.Linear(3, 2)), **arguments)


def test_layers_must_follow_each_other():
    with pytest.raises(ValueError, match="3 outputs, then 5 inputs"):
        WeightChain((nn.Linear(4, 3), nn.Linear(5, 2)))


def test_a_lambda_needs_a_prior():
    with pytest.raises(ValueError, match="there is no prior"):
        WeightChain((nn.Linear(4, 3),)).score((0.5,))
