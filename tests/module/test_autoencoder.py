import numpy as np
import pytest
import torch
from scipy import stats
from scvi import REGISTRY_KEYS

from scvi_neuronedit.module import AutoencoderModule

COUNTS = torch.tensor([[1.0, 0, 3], [0, 0, 0], [10, 20, 30]])


def module(likelihood, **kwargs):
    torch.manual_seed(0)
    return AutoencoderModule(3, hidden=(4,), n_latent=2, likelihood=likelihood, **kwargs).eval()


def losses(net, x, **tensors):
    return net({REGISTRY_KEYS.X_KEY: x, **tensors})


def test_normal_loss_is_half_the_squared_error():
    net = module("normal")
    _, generative, loss = losses(net, COUNTS)
    expected = 0.5 * ((net.autoencoder(COUNTS) - COUNTS) ** 2).sum(dim=1)
    torch.testing.assert_close(loss.reconstruction_loss["reconstruction_loss"], expected)
    torch.testing.assert_close(loss.loss, expected.mean())
    torch.testing.assert_close(generative["px"].loc, net.autoencoder(COUNTS))


def test_count_losses_are_the_likelihoods_of_scipy():
    for likelihood in ("poisson", "nb"):
        net = module(likelihood)
        _, _, loss = losses(net, COUNTS)
        library = COUNTS.sum(dim=1, keepdim=True).clamp(min=1)
        rates = torch.softmax(net.autoencoder(torch.log1p(1e4 * COUNTS / library)), dim=1)
        mean = (rates * library).detach().numpy().astype(float)
        distribution = stats.poisson(mean) if likelihood == "poisson" else stats.nbinom(1.0, 1 / (1 + mean))
        np.testing.assert_allclose(
            loss.reconstruction_loss["reconstruction_loss"].detach(),
            -distribution.logpmf(COUNTS.numpy()).sum(axis=1),
            rtol=1e-4,
        )


def test_expected_counts_add_up_to_the_library_size():
    net = module("nb")
    _, generative, _ = losses(net, COUNTS)
    torch.testing.assert_close(generative["px"].mean.sum(dim=1), torch.tensor([4.0, 1, 60]))


def test_size_factors_stand_for_library_sizes():
    net = module("poisson", counts_per_size_factor=20.0)
    size_factor = torch.tensor([[0.5], [1], [2]])
    _, generative, _ = losses(net, COUNTS, size_factor=size_factor)
    torch.testing.assert_close(generative["px"].mean.sum(dim=1), torch.tensor([10.0, 20, 40]))


def test_means_never_reach_zero():
    net = module("poisson")
    assert (net.mean(torch.tensor([[0.0, -500, 0]]), torch.ones(1, 1)) > 0).all()


@pytest.mark.parametrize("likelihood", ["normal", "nb", "poisson"])
def test_edit_decodes_without_and_with(likelihood):
    net = module(likelihood)
    before, after = net.edit(COUNTS, None, {"code": lambda a: a + 1})
    _, generative, _ = losses(net, COUNTS)
    torch.testing.assert_close(before, generative["px"].mean)
    library = net.library_size(COUNTS, None)
    code = net.activations(COUNTS, None, "code")
    torch.testing.assert_close(after, net.mean(net.autoencoder(code + 1, after="code"), library))
    torch.testing.assert_close(net.inference(COUNTS)["z"], code)


def test_inverse_dispersion():
    assert module("poisson").inverse_dispersion() is None
    np.testing.assert_array_equal(module("nb").inverse_dispersion(), np.ones(3))
