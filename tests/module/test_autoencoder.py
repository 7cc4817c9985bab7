import numpy as np
import pytest
import torch
from scipy import stats
from scvi import REGISTRY_KEYS

from scvi_neuronedit.module import AutoencoderModule
from scvi_neuronedit.nn import prune_layer

COUNTS = torch.tensor([[1.0, 0, 3], [0, 0, 0], [10, 20, 30]])


def module(likelihood, **kwargs):
    torch.manual_seed(0)
    return AutoencoderModule(3, hidden=(4,), n_latent=2, likelihood=likelihood, **kwargs).eval()


def losses(net, x, **tensors):
    return net({REGISTRY_KEYS.X_KEY: x, **tensors})


def test_normal_loss_is_half_the_squared_error():
    net = module("normal")
    _, generative, loss = losses(net, COUNTS)
    expected = 0.5 * ((net.networks[0](COUNTS) - COUNTS) ** 2).sum(dim=1)
    torch.testing.assert_close(loss.reconstruction_loss["reconstruction_loss"], expected)
    torch.testing.assert_close(loss.loss, expected.mean())
    torch.testing.assert_close(generative["px"].loc[0], net.networks[0](COUNTS))


def test_count_losses_are_the_likelihoods_of_scipy():
    for likelihood in ("poisson", "nb"):
        net = module(likelihood)
        _, _, loss = losses(net, COUNTS)
        library = COUNTS.sum(dim=1, keepdim=True).clamp(min=1)
        rates = torch.softmax(net.networks[0](torch.log1p(1e4 * COUNTS / library)), dim=1)
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
    torch.testing.assert_close(generative["px"].mean[0].sum(dim=1), torch.tensor([4.0, 1, 60]))


def test_size_factors_stand_for_library_sizes():
    net = module("poisson", counts_per_size_factor=20.0)
    size_factor = torch.tensor([[0.5], [1], [2]])
    _, generative, _ = losses(net, COUNTS, size_factor=size_factor)
    torch.testing.assert_close(generative["px"].mean[0].sum(dim=1), torch.tensor([10.0, 20, 40]))


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
    torch.testing.assert_close(after[0], net.mean(net.networks[0](code + 1, after="code"), library))
    torch.testing.assert_close(net.inference(COUNTS)["z"][0], code)


def test_inverse_dispersion():
    assert module("poisson").heads[0].inverse_dispersion() is None
    np.testing.assert_array_equal(module("nb").heads[0].inverse_dispersion(), np.ones(3))


# several networks ----------------------------------------------------------------------------------------------------


def test_every_network_has_the_gradient_it_would_have_alone():
    nets = module("normal", n_networks=3)
    losses(nets, COUNTS)[2].loss.backward()
    alone = module("normal")
    for network in nets.networks:
        alone.networks[0].load_state_dict(network.state_dict())
        alone.zero_grad()
        losses(alone, COUNTS)[2].loss.backward()
        for parameter, expected in zip(network.parameters(), alone.networks[0].parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, expected.grad)


def test_the_loss_reported_is_the_mean_over_networks():
    nets = module("nb", n_networks=2)
    alone = module("nb")
    reported = losses(nets, COUNTS)[2].reconstruction_loss["reconstruction_loss"]
    each = []
    for network in nets.networks:
        alone.networks[0].load_state_dict(network.state_dict())
        each.append(losses(alone, COUNTS)[2].reconstruction_loss["reconstruction_loss"])
    torch.testing.assert_close(reported, (each[0] + each[1]) / 2)


def test_edits_name_their_network():
    nets = module("normal", n_networks=3)
    assert nets.names_in_networks("code") == ("code/1", "code/2", "code/3")
    before, after = nets.edit(COUNTS, None, {"code/2": lambda a: a + 1})
    second = nets.networks[1]
    assert before.shape == after.shape == (1, *COUNTS.shape)  # the others are not edited
    torch.testing.assert_close(before[0], second(COUNTS))
    torch.testing.assert_close(after[0], second(second(COUNTS, until="code") + 1, after="code"))
    before, after = nets.edit(COUNTS, None, {})
    torch.testing.assert_close(before, torch.stack([network(COUNTS) for network in nets.networks]))
    torch.testing.assert_close(after, before)


def test_activations_of_several_networks_stand_side_by_side():
    nets = module("normal", n_networks=2)
    codes = [network(COUNTS, until="code") for network in nets.networks]
    torch.testing.assert_close(nets.activations(COUNTS, None, "code"), torch.cat(codes, dim=1))
    torch.testing.assert_close(nets.activations(COUNTS, None, "code/2"), codes[1])
    edited = nets.activations(COUNTS, None, "code", {"code/1": lambda a: a * 2})
    torch.testing.assert_close(edited, torch.cat([codes[0] * 2, codes[1]], dim=1))


# several modalities --------------------------------------------------------------------------------------------------


PROTEINS = torch.tensor([[0.5, -1], [2, 0], [0, 3]])


def joint(**kwargs):
    torch.manual_seed(0)
    return AutoencoderModule([3, 2], hidden=(4,), n_latent=2, likelihood=["nb", "normal"], **kwargs).eval()


def test_modalities_share_the_code_and_have_their_own_likelihood():
    net = joint()
    _, generative, loss = net({"X": COUNTS, "X_2": PROTEINS})
    library = COUNTS.sum(dim=1, keepdim=True).clamp(min=1)
    output = net.networks[0](torch.cat([torch.log1p(1e4 * COUNTS / library), PROTEINS], dim=1)).detach()
    mean = (torch.softmax(output[:, :3], dim=1) * library).numpy().astype(float)
    np.testing.assert_allclose(generative["px"].mean[0].detach(), mean, rtol=1e-5)
    torch.testing.assert_close(generative["px_2"].loc[0].detach(), output[:, 3:])
    expected = -stats.nbinom(1.0, 1 / (1 + mean)).logpmf(COUNTS.numpy()).sum(axis=1)
    expected = expected + 0.5 * ((output[:, 3:] - PROTEINS) ** 2).sum(dim=1).numpy()
    np.testing.assert_allclose(loss.reconstruction_loss["reconstruction_loss"].detach(), expected, rtol=1e-4)


def test_an_edit_of_the_code_reaches_every_modality():
    net = joint(n_networks=2)
    x = torch.cat([COUNTS, PROTEINS], dim=1)
    before, after = net.edit(x, None, {"code/1": lambda a: a + 1})
    assert before.shape == (1, 3, 5)
    assert ((after - before).abs() > 0).any(dim=1).all()
    # each library stays what it was
    torch.testing.assert_close(after[0, :, :3].sum(dim=1), COUNTS.sum(dim=1).clamp(min=1))


def test_libraries_are_those_of_each_modality():
    net = AutoencoderModule([3, 2], hidden=(4,), n_latent=2, likelihood=["nb", "poisson"])
    x = torch.tensor([[1.0, 2, 3, 10, 0]])
    torch.testing.assert_close(net.library_size(x, None), torch.tensor([[6.0, 10]]))
    torch.testing.assert_close(net.scale_counts(x, 2.0), torch.tensor([[1 / 3, 2 / 3, 1, 2, 0]]))
    torch.testing.assert_close(joint().scale_counts(x, 2.0)[:, 3:], x[:, 3:])
    assert net.columns == [slice(0, 3), slice(3, 5)]


def test_a_layer_multiplied_by_a_matrix_computes_the_same():
    torch.manual_seed(0)
    module = AutoencoderModule(12, hidden=(8,), n_latent=5, n_networks=2).eval()
    x, matrix = torch.rand(20, 12), torch.randn(5, 5) + 3 * torch.eye(5)
    before = module.edit(x, None, {})[0]
    codes = module.activations(x, None, "code/1"), module.activations(x, None, "code/2")
    assert module.multiply_layer("code/2", matrix)
    torch.testing.assert_close(module.edit(x, None, {})[0], before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.activations(x, None, "code/1"), codes[0])
    torch.testing.assert_close(module.activations(x, None, "code/2"), codes[1] @ matrix.T, rtol=1e-4, atol=1e-5)
    # an activation function follows, or a mask would be lost
    assert not module.multiply_layer("decoder_1/1", torch.eye(8))
    prune_layer(module.networks[0].layers["decoder_1"][0], torch.ones(8, 5), 0.2)
    pruned = module.edit(x, None, {})[0]
    assert not module.multiply_layer("code/1", matrix)
    torch.testing.assert_close(module.edit(x, None, {})[0], pruned)
