import numpy as np
import pytest

from scvi_neuronedit.metrics import network_scores

# genes 0 and 1 regulate genes 2 and 3; the prior lacks 1 -> 3 and has 0 -> 3 instead
TRUTH = np.array([[0, 0, 1, 0], [0, 0, -1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
PRIOR = np.array([[0, 0, 1, 1], [0, 0, -1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_the_truth_is_perfect():
    scores = network_scores(TRUTH, TRUTH, PRIOR)
    ones = ["balanced_accuracy", "block_ap", "sign_accuracy", "missing_recall", "spurious_rejected"]
    assert [scores[name] for name in ones] == [1] * 5


def test_the_prior_finds_nothing_it_does_not_have():
    scores = network_scores(PRIOR, TRUTH, PRIOR)
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 12 / 13) / 2)
    assert (scores["missing_recall"], scores["spurious_rejected"]) == (0, 0)
    assert np.isnan(scores["missing_auroc"])  # no pair of the block is in neither


def test_scores_by_hand():
    truth = np.zeros((5, 5))
    truth[0, 2:] = [1, 1, -1]
    truth[1, 2] = 1
    prior = np.zeros((5, 5))
    prior[0, 2:4] = 1
    effects = np.zeros((5, 5))
    effects[0, 2:] = [3.0, 0.0, 2.0]  # the last one has the wrong sign
    effects[1, 3] = 1.0
    effects[4, 4] = 9.0  # outside of the block
    scores = network_scores(effects, truth, prior)
    assert scores["recall"] == 2 / 4
    assert scores["specificity"] == 19 / 21
    assert scores["sign_accuracy"] == 1 / 2
    assert scores["block_ap"] == pytest.approx(2 / 4 + 2 * (4 / 6) / 4)  # ranks 1 and 2, then two ties among three at 0
    assert (scores["missing_recall"], scores["missing_chance"]) == (1 / 2, 1 / 2)
    # missing: effects 2 and 0; neither: 1 and 0
    assert scores["missing_auroc"] == (1 + 1 + 0 + 0.5) / 4


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        network_scores(np.ones((2, 2)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="truth has no edges"):
        network_scores(np.ones((2, 2)), np.zeros((2, 2)))
