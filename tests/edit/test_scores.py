import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scvi_neuronedit.metrics import energy_distance

samples = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-50, 50, width=16))


def test_by_hand():
    # 2 * mean(1, 2) - 0 - mean(0, 1, 1, 0)
    assert energy_distance(np.array([[0.0]]), np.array([[1.0], [2.0]])) == pytest.approx(2 * 1.5 - 0.5)


@given(samples, samples)
def test_never_negative_symmetric_and_zero_on_itself(x, y):
    assert energy_distance(x, y) >= -1e-9
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x), abs=1e-9)
    assert energy_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_twice_the_area_between_distribution_functions_in_one_dimension(rng):
    x, y = rng.normal(size=200), rng.normal(1, 2, 150)
    grid = np.sort(np.concatenate([x, y]))
    difference = (x[:, None] <= grid).mean(axis=0) - (y[:, None] <= grid).mean(axis=0)
    expected = 2 * (difference[:-1] ** 2 * np.diff(grid)).sum()
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(expected)
