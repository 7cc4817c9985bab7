import math

import pytest
import torch
from torch.distributions import Bernoulli, Beta, Normal, kl_divergence

from scvi_neuronedit.nn import DenseShift, PriorShift, SparseShift, bernoulli_kl, normal_kl, straight_through_bernoulli


@pytest.fixture(autouse=True)
def _torch_seed():
    torch.manual_seed(0)


def sparse(**arguments) -> SparseShift:
    shift = SparseShift(3, 4, **{"mask_probability": 0.1, "n_hidden": 8, "effect_scale": 2.0, **arguments})
    with torch.no_grad():
        shift.mask_logits.normal_(0, 2)
        shift.effect_mean.normal_()
        shift.effect_raw_scale.normal_()
        if shift.correlated:
            shift.effect.output.weight.normal_()
    return shift


def test_divergences_are_those_of_torch():
    logits, prior = torch.randn(50), torch.randn(50)
    torch.testing.assert_close(
        bernoulli_kl(logits, prior), kl_divergence(Bernoulli(logits=logits), Bernoulli(logits=prior))
    )
    mean, scale = torch.randn(50), torch.rand(50) + 0.1
    torch.testing.assert_close(normal_kl(mean, scale, 1.7), kl_divergence(Normal(mean, scale), Normal(0.0, 1.7)))


def test_extreme_logits_have_a_finite_divergence_and_gradient():
    logits = torch.tensor([-80.0, 80.0], requires_grad=True)
    kl = bernoulli_kl(logits, torch.tensor(math.log(0.01 / 0.99)))
    torch.testing.assert_close(kl, torch.tensor([-math.log(0.99), -math.log(0.01)]))
    kl.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_masks_are_zeros_and_ones_of_the_right_share_with_a_gradient():
    logits = torch.tensor([-2.0, 0.0, 1.5], requires_grad=True)
    masks = straight_through_bernoulli(logits.expand(20_000, -1))
    assert set(masks.detach().round(decimals=6).unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(masks.mean(0), torch.sigmoid(logits), atol=0.015, rtol=0)
    masks.mean(0).sum().backward()
    # the gradient is that of the relaxation, E[s (1 - s)], which is largest at 0
    assert (logits.grad > 0).all()
    assert logits.grad[1] > logits.grad[0]


@pytest.mark.parametrize("correlated", [True, False])
def test_the_global_term_is_the_sum_of_analytic_divergences(correlated):
    shift = sparse(correlated=correlated)
    sample = shift(400)
    assert sample.shift.shape == (400, 3, 4)
    kl_mask = kl_divergence(Bernoulli(logits=shift.mask_logits), Bernoulli(probs=torch.tensor(0.1))).sum()
    mask = torch.bernoulli(torch.sigmoid(shift.mask_logits).expand(4000, 3, 4))
    mean, raw = shift.effect_mean.expand_as(mask), shift.effect_raw_scale.expand_as(mask)
    if correlated:
        more_mean, more_raw = shift.effect(mask, torch.eye(3)).chunk(2, dim=-1)
        mean, raw = mean + more_mean, raw + more_raw
    scale = torch.nn.functional.softplus(raw) + 1e-4
    kl_effect = kl_divergence(Normal(mean, scale), Normal(0.0, 2.0)).sum((1, 2)).mean()
    torch.testing.assert_close(sample.kl, kl_mask + kl_effect, rtol=0.02, atol=0)


@pytest.mark.parametrize("correlated", [True, False])
def test_the_estimated_global_term_has_the_analytic_one_as_its_mean(correlated):
    analytic, estimated = sparse(correlated=correlated), sparse(correlated=correlated, analytic_kl=False)
    estimated.load_state_dict(analytic.state_dict())
    torch.testing.assert_close(estimated(5000).kl, analytic(5000).kl, rtol=0.03, atol=0)


@pytest.mark.parametrize("correlated", [True, False])
def test_moments_are_those_of_the_draws(correlated):
    shift = sparse(correlated=correlated)
    draws = shift(20_000).shift
    moments = shift.moments(3000)
    torch.testing.assert_close(moments.inclusion, torch.sigmoid(shift.mask_logits))
    torch.testing.assert_close(moments.mean, draws.mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(moments.sd, draws.std(0), atol=0.06, rtol=0)


@pytest.mark.parametrize("correlated", [True, False])
def test_while_dense_all_masks_are_1_and_the_network_is_left_out(correlated):
    shift = sparse(correlated=correlated)
    shift.dense = True
    scale = torch.nn.functional.softplus(shift.effect_raw_scale) + 1e-4
    sample = shift(20_000)
    torch.testing.assert_close(sample.shift.mean(0), shift.effect_mean, atol=0.06, rtol=0)
    kl_effect = kl_divergence(Normal(shift.effect_mean, scale), Normal(0.0, 2.0)).sum()
    torch.testing.assert_close(sample.kl, kl_effect - 3 * 4 * math.log(0.1), rtol=1e-4, atol=0)
    assert (shift.inclusion() == 1).all()
    moments = shift.moments()
    torch.testing.assert_close((moments.inclusion, moments.mean), (torch.ones(3, 4), shift.effect_mean))
    torch.testing.assert_close(moments.sd, scale)
    sample.kl.backward()
    assert shift.mask_logits.grad is None


@pytest.mark.parametrize("dense", [True, False])
def test_the_dense_phase_is_part_of_the_state(dense):
    saved, loaded = sparse(), sparse()
    saved.dense, loaded.dense = dense, not dense
    loaded.load_state_dict(saved.state_dict())
    assert loaded.dense is dense
    torch.testing.assert_close(loaded.inclusion(), saved.inclusion())


def test_the_dense_phase_starts_from_what_the_effects_are_under_full_masks():
    shift = sparse(correlated=True)
    with torch.no_grad():
        before = shift._effect_given(torch.ones(3, 4))
        shift.start_dense()
        torch.testing.assert_close(shift._effect_given(torch.ones(3, 4)), before)
        shift.dense = False  # the network is zero again, so turning the effects turns all of them
        torch.testing.assert_close(shift._effect_given(torch.zeros(3, 4)), before)


def test_masks_start_where_the_rotated_effects_are_largest():
    effects = torch.zeros(60, 4)
    effects[torch.arange(60), torch.randint(4, (60,))] = torch.rand(60) + 1
    turned = torch.linalg.qr(torch.randn(4, 4))[0]
    shift = SparseShift(60, 4, mask_probability=0.25, n_hidden=8)
    with torch.no_grad():
        shift.effect_mean.copy_(effects @ turned)
    shift.dense = True
    rotation = shift.start_masks()
    assert not shift.dense
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(shift.effect_mean, effects @ turned @ rotation)
    # the directions are found up to order and sign
    torch.testing.assert_close(shift.effect_mean.abs().sum(1), effects.sum(1), rtol=1e-2, atol=0)
    is_on = shift.mask_logits > 0
    assert (is_on.sum(1) == 1).all()
    assert (is_on == (shift.effect_mean.abs() > 0.5)).all()
    size = shift.effect_mean.abs()
    expected = 4 * torch.log(size / size.flatten().sort().values[-61:-59].mean())
    torch.testing.assert_close(shift.mask_logits, expected.clamp(-3, 3), atol=0.4, rtol=0)
    assert shift.mask_logits.min() == -3


def test_masks_of_perturbations_that_do_nothing_start_off():
    shift = SparseShift(5, 4, mask_probability=0.25, n_hidden=8)
    rotation = shift.start_masks()
    torch.testing.assert_close(rotation, torch.eye(4))
    assert (shift.mask_logits == -3).all()


def test_dense_shifts_have_no_mask():
    shift = DenseShift(3, 4, effect_scale=2.0)
    with torch.no_grad():
        shift.effect_mean.normal_()
    scale = torch.nn.functional.softplus(shift.effect_raw_scale) + 1e-4
    sample = shift(20_000)
    torch.testing.assert_close(sample.shift.mean(0), shift.effect_mean, atol=0.03, rtol=0)
    torch.testing.assert_close(sample.kl, kl_divergence(Normal(shift.effect_mean, scale), Normal(0.0, 2.0)).sum())
    assert (shift.moments().inclusion == 1).all()


def test_prior_shifts_pay_for_masks_and_for_their_probability():
    shift = PriorShift(3, 4, concentration=2.0)
    with torch.no_grad():
        shift.mask_logits.normal_()
        shift.prior_logits.normal_()
    prior = Bernoulli(logits=shift.prior_logits.expand(3, 4))
    expected = kl_divergence(Bernoulli(logits=shift.mask_logits), prior).sum()
    expected = expected - Beta(1.0, 2.0).log_prob(prior.probs[0]).sum()
    torch.testing.assert_close(shift(2).kl, expected)
    moments, draws = shift.moments(), shift(20_000).shift
    torch.testing.assert_close(moments.mean, draws.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(moments.sd, draws.std(0), atol=0.03, rtol=0)
