import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from scvi_neuronedit.metrics import mask_recovery, match_latents


@pytest.fixture
def truth(rng) -> np.ndarray:
    return rng.random((40, 6)) < 0.2


def test_the_order_of_latents_does_not_matter(rng, truth):
    order = rng.permutation(6)
    noisy = np.clip(truth * 0.8 + rng.normal(0, 0.1, truth.shape), 0, 1)
    assert mask_recovery(noisy[:, order], truth) == mask_recovery(noisy, truth)
    recovered, true = match_latents(noisy[:, order], truth)
    np.testing.assert_array_equal(order[recovered], true)


def test_perfect_and_random_masks(rng, truth):
    perfect = mask_recovery(truth.astype(float), truth)
    assert perfect == {"average_precision": 1, "precision": 1, "recall": 1, "f1": 1}
    assert mask_recovery(rng.random(truth.shape), truth)["average_precision"] < 0.5


def test_surplus_latents_are_left_out_and_missing_ones_count(rng, truth):
    extra = np.hstack([rng.random((40, 4)) * 0.4, truth])
    assert mask_recovery(extra, truth)["average_precision"] == 1
    missing = mask_recovery(truth[:, :3].astype(float), truth)
    assert missing["recall"] == pytest.approx(truth[:, :3].sum() / truth.sum())
    score = np.hstack([truth[:, :3], np.zeros((40, 3))])
    assert missing["average_precision"] == pytest.approx(average_precision_score(truth.ravel(), score.ravel()))


def test_latents_that_nothing_shifts_are_left_out(truth):
    truth[:, 2] = False
    inclusion = truth.astype(float)
    inclusion[:, 2] = 0.9
    assert mask_recovery(inclusion, truth)["average_precision"] == 1


def test_bad_input(truth):
    with pytest.raises(ValueError, match=r"inclusion has shape \(39, 6\), truth \(40, 6\)"):
        mask_recovery(truth[:39], truth)
    with pytest.raises(ValueError, match="no shift at all"):
        mask_recovery(truth, np.zeros_like(truth))
