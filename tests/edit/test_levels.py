"""How values keep their quantile while what the network decodes changes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from scvi_neuronedit.edit import LevelDistributions
from scvi_neuronedit.edit._levels import _overlapping_bins


@pytest.fixture
def cells(rng):
    """Log counts of 3,000 cells: the higher the decoded value, the more often they are above zero."""
    decoded = rng.uniform(0, 2, (3000, 2))
    values = np.log1p(rng.poisson(np.expm1(decoded)))
    return values.astype(np.float32), decoded.astype(np.float32)


def carry(levels, rng, values, before, after):
    return levels.carry(values, before, after, *rng.random((2, *values.shape)))


@pytest.mark.parametrize(("before", "after"), [(0.4, 1.5), (1.5, 0.4), (0.7, 0.8)])
def test_values_follow_the_distribution_of_the_decoded_value_they_move_to(rng, cells, before, after):
    x = np.log1p(rng.poisson(np.expm1(before), (10_000, 2))).astype(np.float32)
    levels = LevelDistributions.fit(*(np.repeat(part[:, :1], 20, axis=1) for part in cells))
    x = x.reshape(1_000, 20)
    carried = carry(levels, rng, x, np.full_like(x, before), np.full_like(x, after))
    expected = np.log1p(rng.poisson(np.expm1(after), (1_000, 20)))
    # some 150 cells in a bin: a standard error of 0.04 at most
    assert (carried == 0).mean() == pytest.approx((expected == 0).mean(), abs=0.08)
    assert carried.mean() == pytest.approx(expected.mean(), abs=0.12)
    assert np.quantile(carried, 0.9) == pytest.approx(np.quantile(expected, 0.9), abs=0.3)


def test_where_few_cells_are_high_others_that_become_so_are_like_them(rng):
    decoded = np.where(np.arange(2_500) < 50, rng.normal(3, 0.1, 2_500), rng.normal(0.2, 0.1, 2_500)).clip(0)[:, None]
    values = np.where(decoded > 1, rng.normal(3, 0.3, decoded.shape), rng.random(decoded.shape) < 0.2).clip(0)
    levels = LevelDistributions.fit(values.astype(np.float32), decoded.astype(np.float32))
    low = np.flatnonzero(decoded[:, 0] < 1)
    x, before = values[low].astype(np.float32), decoded[low].astype(np.float32)
    carried = carry(levels, rng, x, before, np.full_like(x, 3))
    assert (carried > 0).mean() > 0.98
    assert carried.mean() == pytest.approx(3, abs=0.1)
    assert carried.std() == pytest.approx(0.3, abs=0.1)


def test_the_quantiles_of_the_bins_by_hand():
    decoded = np.arange(30, dtype=np.float32)[::-1, None]
    values = np.where(decoded < 12, 0, 2 * decoded)
    levels = LevelDistributions.fit(values, decoded, n_quantiles=2)  # cells 0 to 19, and 10 to 29
    np.testing.assert_allclose(levels.centers[:, 0], [9.5, 19.5])
    np.testing.assert_allclose(levels.zeros[:, 0], [0.6, 0.1])
    np.testing.assert_allclose(levels.quantiles[0, 0], [28, 36])  # of the 8 positive values those above 2 and 6
    np.testing.assert_allclose(levels.quantiles[1, 0], [32, 50])  # of the 18 those above 4 and 13


@given(n_cells=st.integers(1, 20_000))
def test_bins_are_narrow_at_both_ends_and_leave_no_cell_out(n_cells):
    bins = _overlapping_bins(n_cells)
    assert (bins[0].start, bins[-1].stop) == (0, n_cells)
    assert all(earlier.start < later.start < earlier.stop for earlier, later in pairwise(bins))
    sizes = [rows.stop - rows.start for rows in bins]
    assert sizes == sizes[::-1]
    assert min(sizes) >= min(11, n_cells)
    assert max(sizes) <= max(75, 3 * n_cells / 20)
    if n_cells > 50:
        assert sizes[0] == 25


def test_values_whose_decoded_value_does_not_change_stay(rng, cells):
    values, decoded = cells
    levels = LevelDistributions.fit(values, decoded)
    np.testing.assert_array_equal(carry(levels, rng, values, decoded, decoded), values)


def test_rare_positive_values_neither_vanish_nor_multiply(rng):
    rate = rng.uniform(0.001, 0.02, 100)  # of 100 features
    decoded = (rate + rng.normal(0, 0.01, (5_000, 100))).astype(np.float32)
    values = np.where(rng.random(decoded.shape) < rate, rng.uniform(1, 3, decoded.shape), 0).astype(np.float32)
    levels = LevelDistributions.fit(values, decoded)
    after = (rate + rng.normal(0, 0.01, decoded.shape)).astype(np.float32)
    carried = carry(levels, rng, values, decoded, after)
    assert (carried > 0).mean() == pytest.approx((values > 0).mean(), rel=0.03)
    assert carried.mean() == pytest.approx(values.mean(), rel=0.03)
    # and with what is decoded where it is far higher
    values[:500] = np.where(rng.random((500, 100)) < 0.5, values[:500] + 2, 0)
    decoded[:500] += 1
    levels = LevelDistributions.fit(values, decoded)
    carried = carry(levels, rng, values[500:], decoded[500:], decoded[500:] + 1)
    assert (carried > 0).mean() == pytest.approx((values[:500] > 0).mean(), rel=0.1)


def test_cells_not_fitted_on_have_the_distribution_of_those_decoded_alike(rng):
    def draw(n_cells, decoded):
        share = expit(2 * decoded)
        return np.where(rng.random((n_cells, 20)) < share, decoded + 1 + rng.random((n_cells, 20)), 0).astype(
            np.float32
        )

    decoded = rng.uniform(-1, 1, (4_000, 20)).astype(np.float32)
    levels = LevelDistributions.fit(draw(4_000, decoded), decoded)
    before = np.zeros((5_000, 20), dtype=np.float32)
    for change in (-0.2, 0.2):
        carried, expected = (
            carry(levels, rng, draw(5_000, before), before, before + change),
            draw(5_000, before + change),
        )
        assert (carried > 0).mean() == pytest.approx((expected > 0).mean(), abs=0.012)
        assert carried.mean() == pytest.approx(expected.mean(), abs=0.02)


def test_a_positive_value_where_all_were_zero_stays_and_falls_where_all_are():
    decoded = np.linspace(0, 1, 1_000, dtype=np.float32)[:, None]
    levels = LevelDistributions.fit(np.where(decoded < 0.5, 0, 1 + decoded), decoded)
    x, half = np.full((2, 1), 1.7, dtype=np.float32), np.full((2, 1), 0.5)
    low, high = np.array([[0.1], [0.1]]), np.array([[0.2], [0.9]])
    np.testing.assert_allclose(levels.carry(x, low, high, half, half), x)
    np.testing.assert_array_equal(levels.carry(x, high[::-1], low, half, half)[0], 0)


def test_higher_values_stay_higher_and_no_value_lies_between_zero_and_the_smallest_seen(rng, cells):
    levels = LevelDistributions.fit(*cells)
    x = np.sort(np.log1p(np.arange(1, 9, dtype=np.float32)))[:, None].repeat(2, axis=1)
    carried = carry(levels, rng, x, np.zeros_like(x) + levels.centers[0], np.zeros_like(x) + levels.centers[-1])
    assert (np.diff(carried, axis=0) >= 0).all()
    levels = LevelDistributions.fit(*(np.repeat(part[:, :1], 500, axis=1) for part in cells))
    zeros = np.zeros((1, 500), dtype=np.float32)
    risen = carry(levels, rng, zeros, np.full_like(zeros, 0.1), np.ones_like(zeros))
    assert (risen > 0).any()
    assert risen[risen > 0].min() == pytest.approx(np.log(2))


def test_outside_of_all_bins_positive_values_move_with_the_decoded_value(rng, cells):
    levels = LevelDistributions.fit(*cells)
    x = np.array([[3.0, 0.0]], dtype=np.float32)
    carried = carry(levels, rng, x, np.full_like(x, 5.0), np.full_like(x, 6.0))
    np.testing.assert_allclose(carried, [[4.0, 0.0]])
    carried = carry(levels, rng, x, np.full_like(x, -1.0), np.full_like(x, -1.5))
    np.testing.assert_allclose(carried, [[2.5, 0.0]])


def test_features_that_are_constant_or_decoded_to_one_value_stay_finite(rng):
    values = np.stack([np.zeros(300), rng.poisson(1, 300)], axis=1).astype(np.float32)
    decoded = np.zeros_like(values)
    levels = LevelDistributions.fit(values, decoded)
    carried = carry(levels, rng, values, decoded, decoded + 0.5)
    assert np.isfinite(carried).all()
    assert (carried >= 0).all()
    np.testing.assert_array_equal(carried[:, 0], 0)


@pytest.mark.parametrize("n_cells", [1, 5, 30, 120])
def test_few_cells_are_enough(rng, n_cells):
    values = rng.poisson(2, (n_cells, 3)).astype(np.float32)
    levels = LevelDistributions.fit(values, values)
    carried = carry(levels, rng, values, values, values + 1)
    assert carried.shape == values.shape
    assert np.isfinite(carried).all()


def test_few_cells_move_as_far_as_what_they_are_decoded_to(rng):
    decoded = np.linspace(0.5, 3.5, 80)[:, None].astype(np.float32)
    values = np.maximum(decoded + rng.normal(0, 0.2, decoded.shape), 0).astype(np.float32)
    levels = LevelDistributions.fit(values, decoded)
    low = decoded < 1.5
    x, before = values[low][:, None], decoded[low][:, None]
    carried = carry(levels, rng, x, before, before + 2)
    assert (carried - x).mean() == pytest.approx(2, abs=0.15)
