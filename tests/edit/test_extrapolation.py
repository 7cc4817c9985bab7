import numpy as np

from scvi_neuronedit.edit import extrapolation_std


def test_half_the_own_error_and_half_that_of_features_with_such_a_change():
    predicted = np.array([[0.0, 0, 2, 2], [0, 0, 2, 2]])
    true = predicted + [[1, 0, 3, 3], [1, 0, 3, 1]]
    # features that are predicted not to change are off by 1 (mean square 0.5), those that change by 2 by 9, 9, 9, 1
    own, trend = np.array([1, 0, 9, 5]), np.array([0.5, 0.5, 7, 7])
    found = extrapolation_std(np.array([0.0, 0, 2, -2]), predicted, true)
    np.testing.assert_allclose(found, np.sqrt((own + trend) / 2))


def test_the_trend_never_falls_with_the_size_of_the_change(rng):
    predicted = rng.normal(size=(4, 500))
    true = predicted + rng.normal(size=(4, 500)) * np.abs(predicted)
    changes = np.linspace(-3, 3, 500)
    trend = extrapolation_std(changes, predicted, true) ** 2 - ((predicted - true) ** 2).mean(axis=0) / 2
    assert (np.diff(trend[250:]) > -1e-9).all()
    np.testing.assert_allclose(trend, trend[::-1])


def test_nothing_is_known_without_groups():
    assert np.isnan(extrapolation_std(np.zeros(3), np.empty((0, 3)), np.empty((0, 3)))).all()
