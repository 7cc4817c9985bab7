import numpy as np

from scvi_neuronedit.edit import neighbor_support


def test_extremes(rng):
    reference = rng.normal(size=(200, 4))
    far, central = np.full((1, 4), 50.0), np.zeros((1, 4))
    assert neighbor_support(far, reference)[0] == 0
    assert neighbor_support(central, reference)[0] > 0.8


def test_cells_like_the_reference_are_spread_evenly(rng):
    support = neighbor_support(rng.normal(size=(2000, 4)), rng.normal(size=(2000, 4)))
    np.testing.assert_allclose(np.quantile(support, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.06)


def test_two_reference_cells_are_enough():
    support = neighbor_support(np.array([[0.0], [9.0]]), np.array([[0.0], [1.0]]))
    np.testing.assert_array_equal(support, [1, 0])
