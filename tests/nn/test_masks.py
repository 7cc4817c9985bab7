import pytest
import torch
from torch import nn

from scvi_neuronedit.nn import KeepsMasks, effective_weight, prune_layer, weight_sparsity


class Network(KeepsMasks, nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x):
        return self.layers(x)


def test_lowest_scores_go_first_and_for_good():
    layer = nn.Linear(2, 2, bias=False)
    scores = torch.tensor([[4.0, 1.0], [2.0, 3.0]])
    prune_layer(layer, scores, 0.25)
    assert layer.weight_mask.tolist() == [[1, 0], [1, 1]]
    # a share of those left, and what is gone stays gone however high its score
    prune_layer(layer, torch.tensor([[4.0, 9.0], [2.0, 3.0]]), 1 / 3)
    assert layer.weight_mask.tolist() == [[1, 0], [0, 1]]
    assert weight_sparsity([layer]) == 0.5


def test_masks_survive_training_and_saving(tmp_path):
    torch.manual_seed(0)
    network = Network()
    layer = network.layers[0]
    prune_layer(layer, layer.weight.detach().abs(), 0.6)
    mask = layer.weight_mask.clone()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        network(torch.randn(8, 4)).pow(2).sum().backward()
        optimizer.step()
    assert ((effective_weight(layer) != 0) == mask.bool()).all()

    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = Network()
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    x = torch.randn(3, 4)
    assert torch.equal(other(x), network(x))
    assert torch.equal(other.layers[0].weight_mask, mask)
    other(x).sum().backward()
    assert (other.layers[0].weight_orig.grad[mask == 0] == 0).all()


def test_the_effective_weight_is_never_stale():
    network = Network()
    layer = network.layers[0]
    prune_layer(layer, layer.weight.detach().abs(), 0.5)
    with torch.no_grad():
        layer.weight_orig.fill_(2.0)
    assert set(effective_weight(layer).unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(
    ("scores", "amount", "message"),
    [
        (torch.ones(2, 3), 0.5, "scores have shape"),
        (torch.full((2, 2), torch.nan), 0.5, "NaN"),
        (torch.ones(2, 2), 1.5, "amount=1.5"),
    ],
)
def test_bad_scores_are_refused(scores, amount, message):
    with pytest.raises(ValueError, match=message):
        prune_layer(nn.Linear(2, 2), scores, amount)
