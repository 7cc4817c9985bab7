import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA

from scvi_neuronedit.metrics import energy_distance, pearson_delta, prediction_scores, rank_differential_features


@pytest.fixture
def populations(rng):
    control = rng.normal(size=(80, 6))
    shift = np.array([3.0, -2, 1, 0, 0, 0])
    return control, rng.normal(size=(70, 6)) + shift


def scores(predicted, truth, control, n_top=3):
    pca = PCA(4).fit(np.concatenate([control, truth]))
    return prediction_scores(predicted, truth, control, pca, n_top=n_top)


def test_ranking_is_by_welch_t(populations):
    control, truth = populations
    t = stats.ttest_ind(truth, control, equal_var=False).statistic
    np.testing.assert_array_equal(rank_differential_features(control, truth), np.argsort(-np.abs(t)))
    assert set(rank_differential_features(control, truth)[:3]) == {0, 1, 2}


def test_unchanged_control(populations):
    control, truth = populations
    found = scores(control, truth, control)
    assert (found["edist"], found["egene_ratio"], found["nmse"]) == (1, 1, 1)
    assert found["direction"] == 0
    assert np.isnan(found["pearson_delta"])


def test_the_truth_itself(populations):
    control, truth = populations
    found = scores(truth, truth, control)
    assert found["edist"] == pytest.approx(0, abs=1e-9)
    assert found["nmse"] == 0
    for name in ("r2_deg", "pearson_delta", "pearson_delta_deg", "variance", "direction"):
        assert found[name] == pytest.approx(1)


def test_scores_by_another_formula(rng, populations):
    control, truth = populations
    predicted = control + rng.normal(1, 1, 6)
    found = scores(predicted, truth, control)
    top = [0, 1, 2]
    p, t, c = (x.mean(axis=0) for x in (predicted, truth, control))
    assert found["nmse"] == pytest.approx(np.linalg.norm(p - t) ** 2 / np.linalg.norm(c - t) ** 2)
    assert found["r2_deg"] == pytest.approx(stats.pearsonr(p[top], t[top]).statistic ** 2)
    assert found["pearson_delta_deg"] == pytest.approx(stats.pearsonr((p - c)[top], (t - c)[top]).statistic)
    assert found["pearson_delta"] == pytest.approx(pearson_delta(predicted, truth, control))
    assert found["egene"] == pytest.approx(energy_distance(predicted, truth))
    assert found["egene_ratio"] == pytest.approx(energy_distance(predicted, truth) / energy_distance(control, truth))
    assert found["direction"] == np.mean([(p - c)[j] * (t - c)[j] > 0 for j in top])
