import math

import numpy as np
import pytest
import torch
from torch import nn

from scvi_neuronedit.nn import RegulatoryDynamics, effective_weight, integrate


def set_weights(dynamics, **values):
    with torch.no_grad():
        for name, value in values.items():
            target = dynamics.get_parameter(name)
            target.copy_(torch.as_tensor(value).expand_as(target))


@pytest.fixture
def dynamics():
    torch.manual_seed(0)
    return RegulatoryDynamics(6, 4)


@pytest.fixture
def decay():
    """Two genes that fall towards 0.25, at rates 1 and 2, and one that stays."""
    dynamics = RegulatoryDynamics(3, 1)
    zeros = ("sums.weight", "products.weight", "products.bias", "combine_products.weight")
    set_weights(dynamics, **dict.fromkeys(zeros, 0.0))
    set_weights(dynamics, **{"sums.bias": 0.5, "combine_sums.weight": 0.5, "gene_multipliers": [1.0, 2.0, -1.0]})
    return dynamics


def test_velocity_follows_the_equations(dynamics):
    g = torch.rand(5, 6) * 1.5 - 0.2
    x = g.double().numpy() - 0.5
    phi = x / (1 + np.abs(x))
    w = {name: p.detach().double().numpy() for name, p in dynamics.named_parameters()}
    c_sum = phi @ w["sums.weight"].T + w["sums.bias"]
    c_product = np.exp(np.log(phi + 1) @ w["products.weight"].T + w["products.bias"])
    c = c_sum @ w["combine_sums.weight"].T + c_product @ w["combine_products.weight"].T
    expected = np.maximum(w["gene_multipliers"], 0) * (c - g.double().numpy())
    np.testing.assert_allclose(dynamics(g).detach(), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("solver", ["dopri5", "dopri8", "bosh3", "adaptive_heun", "rk4", "midpoint"])
def test_cells_of_different_durations_share_a_solve(decay, solver):
    start, duration = torch.tensor([[1.0, 0.0, 0.7]] * 3), torch.tensor([0.5, 1.0, 2.0])
    end = integrate(decay, start, duration, solver=solver, tolerance=1e-5).detach()
    for row, t in zip(end.tolist(), duration.tolist(), strict=True):
        expected = [0.25 + 0.75 * math.exp(-t), 0.25 - 0.25 * math.exp(-2 * t), 0.7]
        np.testing.assert_allclose(row, expected, atol=0.02 if solver == "midpoint" else 4e-3)


def test_the_adjoint_gives_the_gradients_of_the_solver(dynamics):
    start, duration = torch.rand(4, 6), torch.tensor([1.0, 2.0, 1.0, 3.0])
    gradients = []
    for adjoint in (True, False):
        dynamics.zero_grad()
        integrate(dynamics, start, duration, adjoint=adjoint, tolerance=1e-6).pow(2).sum().backward()
        gradients.append([p.grad.clone() for p in dynamics.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_masks_hold_under_the_adjoint(dynamics):
    for chain in dynamics.weight_chains():
        chain.prune(0.5, (0.0, 0.0))
    integrate(dynamics, torch.rand(4, 6), torch.ones(4), adjoint=True).sum().backward()
    layer = dynamics.combine_sums
    assert (layer.weight_orig.grad[layer.weight_mask == 0] == 0).all()
    assert (layer.weight_orig.grad[layer.weight_mask == 1] != 0).any()


def test_clamped_genes_stay(dynamics):
    start = torch.rand(3, 6)
    clamped = torch.tensor([True, False, False, True, False, False])
    end = integrate(dynamics, start, torch.ones(3), clamped=clamped)
    assert torch.equal(end[:, clamped], start[:, clamped])
    assert (end[:, ~clamped] != start[:, ~clamped]).any()


@pytest.mark.parametrize("solver", ["dopri5", "rk4"])
def test_a_solver_that_does_not_converge_says_what_to_do(solver):
    dynamics = RegulatoryDynamics(2, 1)
    values = {"sums.weight": 0.0, "combine_sums.weight": 0.0, "products.weight": 0.0, "products.bias": 0.0}
    set_weights(dynamics, **values, **{"combine_products.weight": 0.0, "gene_multipliers": 1e12})
    with pytest.raises(RuntimeError, match=r"(?s)did not converge.*lower learning rate.*larger tolerance"):
        integrate(dynamics, torch.ones(2, 2), torch.tensor([4.0, 1e6]), solver=solver)


def test_effects_have_the_sign_of_the_path():
    dynamics = RegulatoryDynamics(3, 2)
    set_weights(dynamics, **dict.fromkeys(("sums.weight", "products.weight"), 0.0))
    set_weights(dynamics, **dict.fromkeys(("combine_sums.weight", "combine_products.weight"), 0.0))
    set_weights(dynamics, gene_multipliers=[1.0, 2.0, -1.0])
    with torch.no_grad():
        dynamics.sums.weight[0, 0] = 2.0
        dynamics.combine_sums.weight[1, 0] = 3.0  # gene 0 activates gene 1: 2 * 3, times its multiplier 2
        dynamics.products.weight[1, 1] = -0.5
        dynamics.combine_products.weight[0, 1] = 1.0  # gene 1 represses gene 0
        dynamics.combine_sums.weight[2, 0] = 5.0  # gene 2 cannot change
    np.testing.assert_allclose(dynamics.effects(), [[0, 12, 0], [-0.5, 0, 0], [0, 0, 0]])


def test_pruning_uses_the_importances_of_the_paper(dynamics):
    sums, products = dynamics.weight_chains()
    set_weights(dynamics, gene_multipliers=[1.0, 2.0, -1.0, 0.5, 0.1, 3.0])
    for chain, function in ((sums, torch.abs), (products, torch.exp)):
        first, second = chain.score((0.0, 0.0))
        expected = function(chain.layers[0].weight.detach().double())
        torch.testing.assert_close(first, expected / expected.sum())
        rates = torch.tensor([[1.0], [2.0], [0.0], [0.5], [0.1], [3.0]], dtype=torch.float64)
        expected = chain.layers[1].weight.detach().double().abs() * rates
        torch.testing.assert_close(second, expected / expected.sum())


def test_the_prior_is_turned_to_the_orientation_of_the_layers(dynamics):
    prior = torch.zeros(6, 6)
    prior[0, 3] = -1.0  # gene 0 acts on gene 3
    chain = dynamics.weight_chains(prior, torch.eye(6))[0]
    assert chain.prior[3, 0] == -1
    _, second = chain.score((0.0, 1.0))
    assert second[3].sum() == pytest.approx(1)  # all of the score goes to what feeds gene 3


def test_dense_layers_are_not_masked(dynamics):
    assert isinstance(dynamics.sums, nn.Linear)
    assert effective_weight(dynamics.sums) is dynamics.sums.weight
