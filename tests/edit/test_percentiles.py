import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scvi_neuronedit.edit import LookUp, percentile_table

finite = st.floats(-1e3, 1e3, width=32)
activations = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=finite)


@given(activations, st.integers(2, 101))
def test_table_equals_numpy_quantile(values, n_quantiles):
    expected = np.quantile(values, np.linspace(0, 1, n_quantiles), axis=0)
    np.testing.assert_allclose(percentile_table(values, n_quantiles), expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_give_equal_quantiles(dtype):
    values = np.repeat(np.array([[0.17], [0.51], [1.7]], dtype=dtype), [137, 41, 300], axis=0)
    table = percentile_table(values)
    assert (np.diff(table[:, 0]) >= 0).all()
    assert set(np.unique(table)) >= set(values.ravel())
    assert (table[:25] == values[0]).all()


def test_table_spans_several_blocks_of_columns_and_keeps_dtype(rng):
    values = rng.normal(size=(50, 37)).astype(np.float32)
    table = percentile_table(values)
    assert table.shape == (101, 37)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table, np.percentile(values, np.arange(101), axis=0), atol=1e-6)


def test_table_leaves_its_input_alone(rng):
    values = rng.normal(size=(30, 3))
    before = values.copy()
    percentile_table(values)
    np.testing.assert_array_equal(values, before)


@given(activations)
def test_equal_weights_give_the_unweighted_table(values):
    weighted = percentile_table(values, weights=np.full(len(values), 0.3))
    np.testing.assert_allclose(weighted, percentile_table(values), atol=1e-6)


def test_weighted_table_by_hand():
    # positions of 0, 1, 2 with weights 1, 1, 3: 0, 1, 3; of 3 in all
    table = percentile_table(np.array([[2.0], [0.0], [1.0]]), 4, weights=np.array([3.0, 1.0, 1.0]))
    np.testing.assert_allclose(table[:, 0], [0, 1, 1.5, 2])


def test_weights_stand_for_repeated_cells(rng):
    values = rng.permutation(400).astype(float)[:, None]
    weights = rng.integers(1, 5, 400)
    repeated = np.repeat(values, weights, axis=0)
    difference = percentile_table(values, weights=weights.astype(float)) - percentile_table(repeated)
    assert np.abs(difference).max() < 2  # cells are 1 apart


def test_table_needs_two_quantiles():
    with pytest.raises(ValueError, match="n_quantiles is 1"):
        percentile_table(np.zeros((3, 1)), 1)


@given(
    hnp.arrays(np.float64, (12, 3), elements=finite, unique=True),
    hnp.arrays(np.float64, (12, 3), elements=finite),
    hnp.arrays(np.float64, (20, 3), elements=st.floats(-2e3, 2e3, width=32)),
)
def test_linear_look_up_equals_numpy_interp(knots, values, points):
    knots = np.sort(knots, axis=0)
    found = LookUp(knots, values)(points)
    for j in range(3):
        np.testing.assert_allclose(found[:, j], np.interp(points[:, j], knots[:, j], values[:, j]), atol=1e-6)


@given(
    hnp.arrays(np.float64, (12, 2), elements=st.integers(-5, 5).map(float)),
    hnp.arrays(np.float64, (12, 2), elements=finite),
    hnp.arrays(np.float64, (20, 2), elements=st.floats(-7, 7, width=32)),
)
def test_step_look_up_takes_the_last_knot_at_or_below(knots, values, points):
    knots = np.sort(knots, axis=0)
    found = LookUp(knots, values, "step")(points)
    for j in range(2):
        knot = (np.searchsorted(knots[:, j], points[:, j], side="right") - 1).clip(0)
        np.testing.assert_array_equal(found[:, j], values[knot, j])


def test_look_up_finds_knots_that_crowd_into_one_bin_of_its_grid(rng):
    knots = np.sort(np.concatenate([rng.normal(0, 1e-6, 100), [1e3]]))[:, None]
    values = rng.normal(size=knots.shape)
    points = np.concatenate([knots, rng.normal(0, 2e-6, (500, 1))])
    np.testing.assert_allclose(
        LookUp(knots, values)(points)[:, 0], np.interp(points[:, 0], knots[:, 0], values[:, 0]), atol=1e-9
    )


def test_coinciding_knots_carry_the_mean_of_their_values():
    knots, values = np.array([[0.0], [0], [0], [1], [2]]), np.array([[1.0], [2], [6], [5], [7]])
    points = np.array([[-1.0], [0], [0.5], [1], [3]])
    np.testing.assert_allclose(LookUp(knots, values)(points)[:, 0], [3, 3, 4, 5, 7])


def test_constant_neuron():
    look_up = LookUp(np.zeros((3, 1)), np.array([[1.0], [2], [3]]))
    np.testing.assert_allclose(look_up(np.array([[-1.0], [0], [1]]))[:, 0], 2)


def test_look_up_accepts_any_memory_order_and_keeps_dtype(rng):
    look_up = LookUp(np.sort(rng.normal(size=(5, 4)), axis=0), rng.normal(size=(5, 4)))
    points = rng.normal(size=(30, 4)).astype(np.float32)
    found = look_up(np.asfortranarray(points))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, look_up(points))
