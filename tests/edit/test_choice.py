import numpy as np
import pandas as pd
import pytest

from scvi_neuronedit.edit import (
    NO_EDIT,
    Candidate,
    choose_candidate,
    leave_group_out,
    random_folds,
    sample_groups,
    summarize_scores,
    usable_groups,
)

GROUPS = np.repeat(["a", "b", "c"], 40)


def test_usable_groups():
    source = np.repeat(["a", "b", "c", "d"], [50, 20, 19, 100])
    target = np.repeat(["a", "b", "c", "e"], [25, 60, 60, 60])
    np.testing.assert_array_equal(usable_groups(source, target), ["a", "b"])
    np.testing.assert_array_equal(usable_groups(source, target, n_groups=1), ["a"])
    assert len(usable_groups(source, np.array(["z"]))) == 0


def test_sample_groups(rng):
    rows = sample_groups(GROUPS, np.array(["a", "c"]), 10, rng)
    assert (np.diff(rows) > 0).all()
    assert np.unique(GROUPS[rows], return_counts=True)[1].tolist() == [10, 10]
    assert len(sample_groups(GROUPS, np.array(["b"]), 99, rng)) == 40


def test_random_folds_are_of_one_size_and_repeatable():
    source, target = random_folds(100, 52, 5, 0)
    assert np.bincount(source).tolist() == [20] * 5
    assert np.bincount(target).tolist() == [11, 11, 10, 10, 10]
    assert (np.diff(source) < 0).any()  # not in the order of the cells
    np.testing.assert_array_equal(random_folds(100, 52, 5, 0)[1], target)
    assert (random_folds(100, 52, 5, 1)[0] != source).any()


@pytest.fixture
def populations(rng):
    control = rng.normal(size=(120, 5)) + np.repeat([0, 5, -5], 40)[:, None]
    return control, control + [2, -1, 0, 0, 0]


def test_scores_of_nothing_of_the_truth_and_of_half(populations):
    control, truth = populations

    def predict(candidate, in_source, in_target):
        np.testing.assert_array_equal(in_source, in_target)
        return control[in_source] + candidate.strength * (truth - control)[in_source]

    candidates = [NO_EDIT, Candidate("half", strength=0.5), Candidate("truth")]
    scores = leave_group_out(control, truth, GROUPS, GROUPS, predict, candidates)
    assert list(scores["group"].unique()) == ["a", "b", "c"]
    table = summarize_scores(scores).set_index("method")
    assert list(table.index) == ["truth", "half", "none"]
    assert table.loc["none", "score"] == 1
    assert table.loc["truth", "score"] == pytest.approx(0, abs=1e-9)
    assert table.loc["half", "pearson_delta"] == pytest.approx(1)
    assert 0 < table.loc["half", "edist"] < 1
    assert table.loc["half", "score"] == pytest.approx(table.loc["half", "edist"] / 2)
    assert table.loc["half", "layers"] == "code"


def test_left_out_groups_are_never_shown(populations):
    control, truth = populations
    seen = []

    def predict(candidate, in_source, in_target):
        seen.append((set(GROUPS[in_source]), set(GROUPS[in_target])))
        return control[in_source]

    leave_group_out(control, truth, GROUPS, GROUPS, predict, [Candidate("x")])
    assert seen == [({name}, {name}) for name in "abc"]


def test_a_group_that_does_not_respond_does_not_decide_alone(populations):
    control, truth = populations
    truth = truth.copy()
    truth[GROUPS == "c"] = control[GROUPS == "c"] + 1e-3

    def predict(candidate, in_source, in_target):
        return control[in_source] + [2, -1, 0, 0, 0]

    scores = leave_group_out(control, truth, GROUPS, GROUPS, predict, [NO_EDIT, Candidate("x")])
    unchanged = scores[scores["method"] == "none"]
    assert unchanged["edist"].mean() == pytest.approx(1)
    assert unchanged.set_index("group")["edist"]["c"] < 0.01
    wrong = scores[(scores["method"] == "x") & (scores["group"] == "c")]
    assert wrong["edist"].item() < 3  # though it is thousands of times worse than no edit
    assert summarize_scores(scores)["method"].iloc[0] == "x"


def test_error_of_the_score_is_that_of_a_mean_over_groups(populations, rng):
    control, truth = populations

    def predict(candidate, in_source, in_target):
        return truth[in_source] + (3 if GROUPS[in_source][0] == "a" else 0)

    row = summarize_scores(leave_group_out(control, truth, GROUPS, GROUPS, predict, [Candidate("x")])).iloc[0]
    # one group scores 3 times the mean, the others nothing: standard deviation sqrt(3) times the mean
    assert row["score_se"] == pytest.approx(row["score"], rel=0.05)


def scores_of(**scores):
    rows = [
        {"method": method, "layers": "code", "strength": 1.0, "group": group, "score": score, "edist": 0.0}
        for method, values in scores.items()
        for group, score in zip("abcd", values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_best_is_chosen_if_it_is_better_than_the_preferred_beyond_noise():
    scores = scores_of(good=[0.1, 0.2, 0.1, 0.2], preferred=[0.3, 0.4, 0.3, 0.4])
    assert choose_candidate(scores, Candidate("preferred")).method == "good"
    scores = scores_of(good=[0.1, 0.5, 0.1, 0.5], preferred=[0.4, 0.3, 0.4, 0.3])
    assert choose_candidate(scores, Candidate("preferred")).method == "preferred"
    assert choose_candidate(scores, Candidate("not scored")).method == "good"
    # 2.4 standard errors better, where four groups need 3.2
    scores = scores_of(good=[0.1, 0.1, 0.1, 0.1], preferred=[0.15, 0.4, 0.15, 0.4])
    assert choose_candidate(scores, Candidate("preferred")).method == "preferred"


def test_nothing_is_done_unless_that_is_better_beyond_noise():
    assert choose_candidate(scores_of(x=[0.9, 1.0, 0.8, 1.1]), Candidate("x")) == NO_EDIT
    assert choose_candidate(scores_of(x=[1.2, 1.3, 1.2, 1.3]), Candidate("x")) == NO_EDIT
    assert choose_candidate(scores_of(x=[0.9, 0.91, 0.9, 0.91]), Candidate("x")) == Candidate("x")
