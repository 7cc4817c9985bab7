import numpy as np

from scvi_neuronedit.data import CrossCovariance


def test_minibatches_add_up(rng):
    x, z = rng.normal(1000, 1, (50, 4)), rng.normal(size=(50, 3))
    x[:, 0] += 2 * z[:, 0]
    x[:, 3] = 7
    covariance = CrossCovariance.of((x[i : i + 20], z[i : i + 20]) for i in (0, 20, 40))
    expected = np.corrcoef(x[:, :3].T, z.T)[:3, 3:]
    np.testing.assert_allclose(covariance.correlation()[:3], expected, atol=1e-8)
    assert (covariance.correlation()[3] == 0).all()
    weights = np.array([[0.5], [2], [0]])
    expected = np.corrcoef(x[:, 0], (z @ weights)[:, 0])[0, 1]
    np.testing.assert_allclose(covariance.correlation(weights)[0, 0], expected)
    np.testing.assert_allclose(covariance.zz, np.cov(z.T, bias=True), atol=1e-10)
