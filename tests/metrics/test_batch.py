import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance
from sklearn.decomposition import PCA

from scvi_neuronedit.metrics import (
    control_errors,
    control_scores,
    correlation_error,
    energy_distance,
    feature_emd,
    feature_emd_interval,
    preservation,
)


def samples(n_features=3):
    return st.integers(1, 12).flatmap(
        lambda n: arrays(np.float32, (n, n_features), elements=st.floats(-99, 99, width=16))
    )


@given(samples(), samples())
@settings(max_examples=200, deadline=None)
def test_emd_is_the_wasserstein_distance_of_each_feature(x, y):
    expected = [wasserstein_distance(x[:, j], y[:, j]) for j in range(x.shape[1])]
    np.testing.assert_allclose(feature_emd(x, y), expected, rtol=1e-6, atol=1e-6)


def test_emd_by_hand():
    np.testing.assert_allclose(feature_emd(np.array([[0, 5], [2, 5]]), np.array([[1, 5], [3, 5], [5, 8]])), [2, 1])


def test_the_interval_holds_the_distance_and_what_sampling_makes_of_it(rng):
    x, y = rng.normal(size=(400, 2)), rng.normal([0, 3], size=(300, 2))
    low, high = feature_emd_interval(x, y, random_state=1)
    assert low[1] < 3 < high[1]
    assert high[1] - low[1] < 0.6
    assert high[0] < 0.4
    np.testing.assert_array_equal(feature_emd_interval(x, y, random_state=1)[1], high)
    wider = feature_emd_interval(x, y, level=0.999, random_state=1)
    assert wider[0][1] < low[1]
    assert wider[1][1] > high[1]


def test_correlation_error(rng):
    x = rng.normal(size=(200, 4))
    y = x @ rng.normal(size=(4, 4))
    expected = np.abs(np.corrcoef(x.T) - np.corrcoef(y.T)).mean()
    assert correlation_error(x, y) == pytest.approx(expected, rel=1e-9)
    assert correlation_error(x, 3 * x + 1) == pytest.approx(0, abs=1e-12)
    constant = np.column_stack([x[:, 0], np.ones(200)])
    assert correlation_error(constant, constant) == 0
    correlated = np.column_stack([x[:, 0], x[:, 0]])
    assert correlation_error(constant, correlated) == pytest.approx((1 + 1 + 1) / 4)


def test_control_scores_and_preservation(rng):
    x, y = rng.normal(size=(50, 3)), rng.normal(1, size=(60, 3))
    pca = PCA(2).fit(np.concatenate([x, y]))
    scores = control_scores(x, y, pca)
    assert scores["emd"] == feature_emd(x, y).mean()
    assert scores["emd_max"] == feature_emd(x, y).max()
    assert scores["edist"] == energy_distance(pca.transform(x), pca.transform(y))
    assert scores["ecorr"] == correlation_error(x, y)
    assert preservation((x, y), (x + 5, y + 5)) == pytest.approx(1)
    assert preservation((x, y), (x / 2, y / 2)) == pytest.approx(0.5)
    assert preservation((x, x + 1), (x, x)) == 0


@pytest.fixture
def batches(rng) -> AnnData:
    """Two batches with two controls each, a third with one, and cells of no control; the batches are shifted."""
    obs = pd.DataFrame(
        [
            (b, c)
            for b, c in [*zip("aabb", "1212", strict=True), ("c", "2"), ("a", None), ("c", None)]
            for _ in range(50)
        ],
        columns=["batch", "control"],
    ).set_index(pd.RangeIndex(350).astype(str))
    cells = np.tile(rng.normal(size=(50, 3)), (7, 1))
    shift = obs["batch"].map({"a": 0, "b": 1, "c": 3}).to_numpy()[:, None]
    adata = AnnData(cells + shift + (obs["control"] == "2").to_numpy()[:, None] * 0.5, obs=obs)
    adata.layers["corrected"] = adata.X - 0.5 * shift
    return adata


@pytest.mark.parametrize("categorical", [False, True])
def test_errors_of_every_batch_and_control(batches, categorical):
    if categorical:
        batches.obs = batches.obs.astype("category")
    table = control_errors(batches, [None, "corrected"], batch_key="batch", control_key="control", reference="a")
    assert table[["batch", "control", "layer"]].to_numpy().tolist() == [
        ["b", "1", "X"], ["b", "1", "corrected"],
        ["b", "2", "X"], ["b", "2", "corrected"],
        ["c", "2", "X"], ["c", "2", "corrected"],
    ]  # fmt: skip
    np.testing.assert_allclose(table["emd"], [1, 0.5, 1, 0.5, 3, 1.5], rtol=1e-5)
    np.testing.assert_allclose(table["emd_change"], [0, -0.5] * 3, atol=1e-6)
    np.testing.assert_allclose(table["ecorr"], 0, atol=1e-6)
    one = control_errors(batches, "corrected", batch_key="batch", control_key="control", reference="c")
    np.testing.assert_allclose(one["emd"], [1.5, 1], rtol=1e-5)  # within the corrected layer: 3/2 - 0, 3/2 - 1/2


def test_bad_arguments_of_control_errors(batches):
    keys = {"batch_key": "batch", "control_key": "control"}
    with pytest.raises(KeyError, match="batch_key 'batches' is not in adata.obs"):
        control_errors(batches, None, batch_key="batches", control_key="control", reference="a")
    with pytest.raises(KeyError, match="control_key 'controls' is not in adata.obs"):
        control_errors(batches, None, batch_key="batch", control_key="controls", reference="a")
    with pytest.raises(ValueError, match="reference 'd' is not in"):
        control_errors(batches, None, reference="d", **keys)
    with pytest.raises(KeyError, match="layer 'correct' is not in adata.layers"):
        control_errors(batches, [None, "correct"], reference="a", **keys)
    batches.obs["control"] = batches.obs["batch"].astype(str)
    with pytest.raises(ValueError, match=r"no control of adata.obs\['control'\] \('a', 'b', 'c'\) is in batch 'a' and"):
        control_errors(batches, None, reference="a", **keys)
