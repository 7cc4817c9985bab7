"""How values keep their quantile while what the network decodes changes."""

import numpy as np
import pytest

from scvi_neuronedit.edit import LevelDistributions


@pytest.fixture
def cells(rng):
    """Log counts of 3,000 cells: the higher the decoded value, the more often they are above zero."""
    decoded = rng.uniform(0, 2, (3000, 2))
    values = np.log1p(rng.poisson(np.expm1(decoded)))
    return values.astype(np.float32), decoded.astype(np.float32)


@pytest.mark.parametrize(("before", "after"), [(0.4, 1.5), (1.5, 0.4), (0.7, 0.8)])
def test_values_follow_the_distribution_of_the_decoded_value_they_move_to(rng, cells, before, after):
    x = np.log1p(rng.poisson(np.expm1(before), (10_000, 2))).astype(np.float32)
    levels = LevelDistributions.fit(*(np.repeat(part[:, :1], 20, axis=1) for part in cells))
    x = x.reshape(1_000, 20)
    carried = levels.carry(x, np.full_like(x, before), np.full_like(x, after))
    expected = np.log1p(rng.poisson(np.expm1(after), (1_000, 20)))
    # 150 cells in a bin: a standard error of 0.04 at most
    assert (carried == 0).mean() == pytest.approx((expected == 0).mean(), abs=0.08)
    assert carried.mean() == pytest.approx(expected.mean(), abs=0.12)
    assert np.quantile(carried, 0.9) == pytest.approx(np.quantile(expected, 0.9), abs=0.3)


def test_the_quantiles_of_the_bins_by_hand():
    decoded = np.arange(400, dtype=np.float32)[::-1, None]
    values = 2 * decoded
    levels = LevelDistributions.fit(values, decoded, n_bins=4, n_quantiles=2)  # 200 cells each, half of them shared
    np.testing.assert_allclose(levels.centers[:, 0], [99.5, 99.5 + 66, 99.5 + 133, 299.5])
    np.testing.assert_allclose(levels.quantiles[0, 0], [100, 300])
    np.testing.assert_allclose(levels.quantiles[3, 0], [500, 700])


def test_values_whose_decoded_value_does_not_change_stay(cells):
    values, decoded = cells
    levels = LevelDistributions.fit(values, decoded)
    np.testing.assert_array_equal(levels.carry(values, decoded, decoded), values)


def test_higher_values_stay_higher_and_no_value_lies_between_zero_and_the_smallest_seen(cells):
    levels = LevelDistributions.fit(*cells)
    x = np.sort(np.log1p(np.arange(1, 9, dtype=np.float32)))[:, None].repeat(2, axis=1)
    carried = levels.carry(x, np.full_like(x, 0.01), np.full_like(x, 1.99))
    assert (np.diff(carried, axis=0) >= 0).all()
    levels = LevelDistributions.fit(*(np.repeat(part[:, :1], 500, axis=1) for part in cells))
    zeros = np.zeros((1, 500), dtype=np.float32)
    risen = levels.carry(zeros, zeros, np.ones_like(zeros))
    assert (risen > 0).any()
    assert risen[risen > 0].min() == pytest.approx(np.log(2))


def test_a_cell_does_not_depend_on_those_beside_it(rng, cells):
    values, decoded = cells
    levels = LevelDistributions.fit(values, decoded)
    order = rng.permutation(3000)
    carried = levels.carry(values, decoded, decoded + 0.3)
    np.testing.assert_array_equal(levels.carry(values[order], decoded[order], decoded[order] + 0.3), carried[order])


def test_above_all_bins_positive_values_move_with_the_decoded_value(cells):
    levels = LevelDistributions.fit(*cells)
    x = np.array([[3.0, 0.0]], dtype=np.float32)
    carried = levels.carry(x, np.full_like(x, 5.0), np.full_like(x, 6.0))
    np.testing.assert_allclose(carried, [[4.0, 0.0]])


def test_features_that_are_constant_or_decoded_to_one_value_stay_finite(rng):
    values = np.stack([np.zeros(300), rng.poisson(1, 300)], axis=1).astype(np.float32)
    decoded = np.zeros_like(values)
    levels = LevelDistributions.fit(values, decoded)
    carried = levels.carry(values, decoded, decoded + 0.5)
    assert np.isfinite(carried).all()
    assert (carried >= 0).all()
    np.testing.assert_array_equal(carried[:, 0], 0)


@pytest.mark.parametrize("n_cells", [1, 5, 120])
def test_few_cells_are_enough(rng, n_cells):
    values = rng.poisson(2, (n_cells, 3)).astype(np.float32)
    levels = LevelDistributions.fit(values, values)
    carried = levels.carry(values, values, values + 1)
    assert carried.shape == values.shape
    assert np.isfinite(carried).all()


def test_few_cells_move_as_far_as_what_they_are_decoded_to(rng):
    decoded = np.linspace(0.5, 3.5, 80)[:, None].astype(np.float32)
    values = np.maximum(decoded + rng.normal(0, 0.2, decoded.shape), 0).astype(np.float32)
    levels = LevelDistributions.fit(values, decoded)
    low = decoded < 1.5
    carried = levels.carry(values[low][:, None], decoded[low][:, None], decoded[low][:, None] + 2)
    np.testing.assert_allclose((carried - values[low][:, None]).mean(), 2, atol=0.15)
