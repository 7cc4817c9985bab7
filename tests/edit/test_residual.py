import numpy as np
import pytest
from scipy import stats

from scvi_neuronedit.edit import carry_counts

INVERSE_DISPERSION = np.array([2.0])


def draw(rng, mean, inverse_dispersion, n_cells=20_000):
    if inverse_dispersion is None:
        return rng.poisson(mean, (n_cells, 1)).astype(np.float32)
    p = inverse_dispersion / (inverse_dispersion + mean)
    return rng.negative_binomial(inverse_dispersion, p, (n_cells, 1)).astype(np.float32)


@pytest.mark.parametrize("inverse_dispersion", [None, INVERSE_DISPERSION], ids=["poisson", "nb"])
@pytest.mark.parametrize(("before", "after"), [(0.3, 2.0), (2.0, 0.3), (5.0, 40.0), (40.0, 5.0)])
def test_counts_of_the_first_distribution_follow_the_second_afterwards(rng, before, after, inverse_dispersion):
    counts = draw(rng, before, inverse_dispersion)
    carried = carry_counts(
        counts,
        np.full(counts.shape, before),
        np.full(counts.shape, after),
        rng.random(counts.shape),
        inverse_dispersion,
    )
    assert (carried == np.rint(carried)).all()
    assert (carried >= 0).all()
    bins = np.arange(60)
    if inverse_dispersion is None:
        expected = stats.poisson(after).cdf(bins)
    else:
        expected = stats.nbinom(2.0, 2 / (2 + after)).cdf(bins)
    found = (carried <= bins).mean(axis=0)
    assert np.abs(found - expected).max() < 0.02  # about twice the Kolmogorov-Smirnov bound at 5 %


def test_unchanged_means_leave_counts_exactly_as_they_are(rng):
    counts = rng.poisson(3, (50, 4)).astype(np.float32)
    mean = rng.gamma(2, 1, (50, 4))
    np.testing.assert_array_equal(carry_counts(counts, mean, mean, rng.random(counts.shape)), counts)


def test_larger_counts_stay_larger(rng):
    counts = np.arange(30, dtype=np.float32)[:, None]
    carried = carry_counts(counts, np.full((30, 1), 10.0), np.full((30, 1), 25.0), rng.random((30, 1)))
    assert (np.diff(carried[:, 0]) >= 0).all()


def test_extreme_counts_stay_finite(rng):
    counts = np.array([[0.0, 5000.0, 3.0, 0.0]], dtype=np.float32)
    before = np.array([[1000.0, 1e-8, 1e-8, 1e-8]])
    after = np.array([[10.0, 2.0, 5.0, 1e4]])
    for inverse_dispersion in (None, np.full(4, 1.5)):
        carried = carry_counts(counts, before, after, rng.random(counts.shape), inverse_dispersion)
        assert np.isfinite(carried).all()
        assert (carried >= 0).all()
    np.testing.assert_array_equal(counts, [[0, 5000, 3, 0]])
