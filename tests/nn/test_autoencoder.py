import numpy as np
import pytest
import torch

from scvi_neuronedit.nn import Autoencoder


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Autoencoder(5, hidden=(4, 3), n_latent=2).eval()


def test_layers_in_order(network):
    assert network.layer_names == ("encoder_1", "encoder_2", "code", "decoder_1", "decoder_2", "output")


def test_forward_by_hand(network):
    x = torch.randn(7, 5)
    expected = x
    for name in network.layer_names:
        linear = network.layers[name][0]
        expected = expected @ linear.weight.T + linear.bias
        if name not in ("code", "output"):
            expected = torch.where(expected > 0, expected, 0.2 * expected)
        torch.testing.assert_close(network(x, until=name), expected)


def test_parts_join_to_the_whole(network):
    x = torch.randn(7, 5)
    for name in network.layer_names[:-1]:
        torch.testing.assert_close(network(network(x, until=name), after=name), network(x))


def test_edits_are_handed_on(network):
    x = torch.randn(7, 5)
    edited = network(x, edits={"code": lambda a: a + 1, "decoder_2": lambda a: 2 * a})
    decoder_2 = 2 * network(network(x, until="code") + 1, after="code", until="decoder_2")
    torch.testing.assert_close(edited, network(decoder_2, after="decoder_2"))
    torch.testing.assert_close(network(x, until="code", edits={"code": lambda a: a + 1}), network(x, until="code") + 1)


def test_no_hidden_layer():
    network = Autoencoder(5, hidden=(), n_latent=2)
    assert network.layer_names == ("code", "output")
    assert network(torch.zeros(1, 5)).shape == (1, 5)


def test_dropout_only_in_training_and_never_on_the_code():
    network = Autoencoder(50, hidden=(40,), n_latent=30, dropout_rate=0.5)
    x = torch.randn(20, 50)
    assert not torch.equal(network.train()(x), network(x))
    torch.testing.assert_close(network.eval()(x), network(x))
    kinds = [type(part).__name__ for part in network.layers["code"]]
    assert kinds == ["Linear"]


def test_widths(network):
    assert list(network.n_neurons.values()) == [4, 3, 2, 3, 4, 5]


def test_it_learns_to_reconstruct():
    torch.manual_seed(0)
    x = torch.randn(200, 2) @ torch.randn(2, 10)
    network = Autoencoder(10, hidden=(32,), n_latent=4, dropout_rate=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        ((network(x) - x) ** 2).mean().backward()
        optimizer.step()
    assert ((network(x) - x) ** 2).mean() < 0.02 * np.var(x.numpy())
