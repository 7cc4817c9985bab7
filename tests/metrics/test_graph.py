import numpy as np

from scvi_neuronedit.metrics import circular_correlation, group_purity, morans_i
from scvi_neuronedit.nn import named_graph


def test_morans_i_by_hand(rng):
    path = named_graph("path", 4)
    # centred: -1, -1, 1, 1; both orders of edges: 2 (1 - 1 + 1) / 4, times 4 / 6
    np.testing.assert_allclose(morans_i([[0, 0, 2, 2], [5, -5, 5, -5]], path), [1 / 3, -1])
    assert np.isnan(morans_i([[1, 1, 1, 1]], path)).all()
    grid = named_graph("grid", 100)
    assert abs(morans_i(rng.normal(size=(2000, 100)), grid).mean() + 1 / 99) < 0.005


def test_purity_by_hand():
    assert group_purity([0, 0, 1, 1], ["a", "a", "b", "b"]) == 1
    assert group_purity([0, 0, 0, 1], ["a", "a", "b", "b"]) == 3 / 4
    assert group_purity([0, 0, 0, 0], ["a", "a", "b", "c"]) == 1 / 2


def test_circular_correlation(rng):
    angle = np.arange(30) / 30
    assert circular_correlation(angle, (3 * angle + 7)) > 0.999
    rotated = (angle + 0.37) % 1
    assert circular_correlation(angle, rotated) > 0.999
    assert circular_correlation(angle, 1 - rotated) < -0.999
    assert abs(np.mean([circular_correlation(angle, rng.random(30)) for _ in range(50)])) < 0.1
