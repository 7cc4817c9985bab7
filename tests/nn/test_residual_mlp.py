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
