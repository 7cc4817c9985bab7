import torch
from torch.nn import functional

from scvi_neuronedit.nn import ResidualMLP


def test_is_the_network_of_the_concatenated_inputs():
    torch.manual_seed(0)
    network = ResidualMLP((3, 2), 4, n_hidden=5, n_layers=3)
    x, y = torch.randn(7, 3), torch.randn(2, 7, 2)
    h = functional.leaky_relu(network.first(torch.cat([x.expand(2, 7, 3), y], dim=-1)), 0.01)
    for layer in network.hidden:
        h = h + functional.leaky_relu(layer(h), 0.01)
    assert len(network.hidden) == 2
    torch.testing.assert_close(network(x, y), network.output(h))
    torch.testing.assert_close(network(x, y, until=3), h)


def test_a_part_of_the_network_and_what_passes_through_each_layer():
    torch.manual_seed(0)
    for n_layers in (1, 3):
        network, x = ResidualMLP((3,), 4, n_hidden=5, n_layers=n_layers), torch.randn(7, 3)
        output = network(x)
        for number, layer in enumerate(network.activations, start=1):
            activations = network(x, until=number)
            torch.testing.assert_close(network(activations, after=number), output)
            handle = layer.register_forward_hook(lambda layer, inputs, activations: 2 * activations)
            torch.testing.assert_close(network(x), network(2 * activations, after=number))
            handle.remove()
        assert number == n_layers
    assert not any("activations" in name for name in network.state_dict())
