import dataclasses

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from scvi_neuronedit.edit import GaussianMap, MeanMap, PercentileMap, make_map

METHODS = ["percentile", "neighbor", "group", "pairs", "mean", "gaussian"]


@pytest.fixture
def source(rng):
    return rng.normal(size=(300, 4))


@pytest.fixture
def target(rng):
    return rng.gamma(2, 1, (250, 4)) + 1


def paper_percentile_edit(source, target, query):
    """The edit of Amodio et al. (2018), written out neuron by neuron and cell by cell."""
    edited = query.copy()
    for j in range(query.shape[1]):
        p_source, p_target = (np.percentile(x[:, j], np.arange(101)) for x in (source, target))
        for i, a in enumerate(query[:, j]):
            q = max(np.flatnonzero(p_source <= a), default=0)
            edited[i, j] = a + p_target[q] - p_source[q]
    return edited


def test_percentile_step_is_the_papers(rng, source, target):
    query = rng.normal(size=(100, 4)) * 2
    edited = PercentileMap(interpolation="step").fit(source, target)(query)
    np.testing.assert_allclose(edited, paper_percentile_edit(source, target, query))


def test_percentile_linear_maps_quantiles_onto_quantiles(source, target):
    percentile = PercentileMap().fit(source, target)
    levels = np.arange(101)
    edited = percentile(np.percentile(source, levels, axis=0))
    np.testing.assert_allclose(edited, np.percentile(target, levels, axis=0))


@pytest.mark.parametrize("interpolation", ["linear", "step"])
def test_percentile_shifts_by_the_ends_beyond_the_source(source, target, interpolation):
    percentile = PercentileMap(interpolation=interpolation).fit(source, target)
    below, above = source.min(axis=0, keepdims=True) - 5, source.max(axis=0, keepdims=True) + 5
    np.testing.assert_allclose(percentile(below), target.min(axis=0, keepdims=True) - 5)
    np.testing.assert_allclose(percentile(above), target.max(axis=0, keepdims=True) + 5)


def test_percentile_inverse_is_exact_within_the_source(source, target):
    percentile = PercentileMap().fit(source, target)
    np.testing.assert_allclose(percentile.inverse()(percentile(source)), source)


@given(
    hnp.arrays(np.float64, (30, 2), elements=st.floats(-100, 100, width=16)),
    hnp.arrays(np.float64, (25, 2), elements=st.floats(-100, 100, width=16)),
)
def test_percentile_edit_is_monotone_and_stays_within_the_target(source, target):
    edited = PercentileMap().fit(source, target)(source)
    assert (edited >= target.min(axis=0) - 1e-9).all()
    assert (edited <= target.max(axis=0) + 1e-9).all()
    for j in range(2):
        assert (np.diff(edited[np.argsort(source[:, j]), j]) >= -1e-9).all()


def test_mean_shift(source, target):
    mean = MeanMap().fit(source, target)
    np.testing.assert_allclose(mean(source) - source, np.tile(target.mean(0) - source.mean(0), (300, 1)))
    np.testing.assert_allclose(mean.inverse()(mean(source)), source)


def test_gaussian_gives_the_source_the_targets_mean_and_covariance(source, target):
    gaussian = GaussianMap(regularization=0).fit(source, target)
    edited = gaussian(source)
    np.testing.assert_allclose(edited.mean(axis=0), target.mean(axis=0))
    np.testing.assert_allclose(np.cov(edited.T), np.cov(target.T), atol=1e-9)
    np.testing.assert_allclose(gaussian.inverse()(edited), source)


def test_gaussian_matrix_by_another_formula(source, target):
    # A = S^-1 # T, the geometric mean of the inverse source and the target covariance
    gaussian = GaussianMap(regularization=0).fit(source, target)
    inverse_source, covariance = np.linalg.inv(np.cov(source.T)), np.cov(target.T)
    root = linalg.sqrtm(inverse_source)
    expected = root @ linalg.sqrtm(np.linalg.inv(root) @ covariance @ np.linalg.inv(root)) @ root
    np.testing.assert_allclose(gaussian.matrix_, expected.real, atol=1e-8)


def test_gaussian_in_one_dimension():
    source, target = np.array([[0.0], [2.0]]), np.array([[10.0], [16.0]])
    np.testing.assert_allclose(GaussianMap(regularization=0).fit(source, target)(source), target)


def test_gaussian_survives_neurons_that_do_not_vary(rng):
    source, target = rng.normal(size=(50, 3)), rng.normal(1, 2, (50, 3))
    source[:, 1] = target[:, 1] = 4
    edited = GaussianMap().fit(source, target)(source)
    np.testing.assert_allclose(edited[:, 1], 4)
    assert np.isfinite(edited).all()


@pytest.mark.parametrize("method", ["percentile", "mean", "gaussian"])
def test_weights_of_a_whole_number_stand_for_repeated_cells(rng, method):
    source, target = rng.normal(size=(200, 2)), rng.gamma(2, 1, (200, 2))
    n_source, n_target = rng.integers(1, 4, 200), rng.integers(1, 4, 200)
    weighted = make_map(method).fit(source, target, n_source.astype(float), n_target.astype(float))
    repeated = make_map(method).fit(np.repeat(source, n_source, axis=0), np.repeat(target, n_target, axis=0))
    query = np.percentile(source, [20, 50, 80], axis=0)
    np.testing.assert_allclose(weighted(query), repeated(query), atol={"percentile": 0.1}.get(method, 0.02))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_changes_between_equal_populations(source, method):
    edited = make_map(method).fit(source, source)(source)
    np.testing.assert_allclose(edited, source, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_float32_stays_float32(source, target, method):
    source, target = source.astype(np.float32), target.astype(np.float32)
    assert make_map(method).fit(source, target)(source).dtype == np.float32


@pytest.mark.parametrize("method", METHODS)
def test_fit_does_not_keep_or_change_the_callers_arrays(source, target, method):
    before = source.copy()
    fitted = make_map(method).fit(source, target)
    expected = fitted(before)
    np.testing.assert_array_equal(source, before)
    source[:] = 0
    np.testing.assert_array_equal(fitted(before), expected)


def test_make_map_passes_parameters():
    assert make_map("neighbor", n_neighbors=3).n_neighbors == 3


def test_a_map_that_is_passed_on_is_not_shared(source, target):
    shared = PercentileMap(n_quantiles=11)
    first, second = (make_map(shared).fit(source, x) for x in (target, target + 1))
    np.testing.assert_allclose(second(source) - first(source), 1)
    assert first.n_quantiles == 11
    assert shared.get_state() == {}


def test_a_subclass_without_a_name_does_not_take_its_parents_place():
    class Unnamed(MeanMap):
        pass

    assert type(make_map("mean")) is MeanMap


def test_parameters_are_plain_numbers():
    assert type(make_map("neighbor", n_neighbors=np.int64(3)).get_params()["n_neighbors"]) is int


def test_a_new_map_is_one_class(source, target):
    @dataclasses.dataclass(eq=False)
    class HalfMean(MeanMap):
        name = "half mean"
        share: float = 0.5

        def __call__(self, activations):
            return activations + self.share * self.shift_

    fitted = make_map("half mean", share=0.25).fit(source, target)
    np.testing.assert_allclose(fitted(source) - source, 0.25 * (target.mean(0) - source.mean(0)) * np.ones((300, 1)))
    assert fitted.inverse().share == 0.25


@pytest.mark.parametrize(
    ("method", "params", "error", "message"),
    [
        ("neighbour", {}, ValueError, "method='neighbour' is not a known activation map"),
        ("neighbor", {"n_neighbours": 3}, TypeError, "no parameter 'n_neighbours'; it has n_neighbors"),
        ("mean", {"n_quantiles": 3}, TypeError, "no parameter 'n_quantiles'; it has none"),
        (MeanMap(), {"n_quantiles": 3}, TypeError, "already made"),
        ("neighbor", {"n_neighbors": 0}, ValueError, "n_neighbors=0; it must be at least 1"),
        ("percentile", {"interpolation": "cubic"}, ValueError, "interpolation='cubic'"),
        ("gaussian", {"regularization": -1}, ValueError, "regularization=-1"),
    ],
)
def test_bad_parameters(method, params, error, message):
    with pytest.raises(error, match=message):
        make_map(method, **params)
