import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scvi_neuronedit.edit import composition_weights

labels = st.lists(st.sampled_from("abcd"), min_size=1, max_size=30)


def shares(cells, weights):
    return {label: weights[np.asarray(cells) == label].sum() / weights.sum() for label in set(cells)}


def test_by_hand():
    source, target = composition_weights(["a"] * 4 + ["b"] * 2, ["a"] * 2 + ["b"] * 2)
    # both labels count min(4, 2) = min(2, 2) = 2
    np.testing.assert_allclose(source, [0.75] * 4 + [1.5] * 2)
    np.testing.assert_allclose(target, [1.0] * 4)


@given(labels, labels)
def test_both_sides_hold_every_label_in_the_same_share(source, target):
    source_weights, target_weights = composition_weights(source, target)
    shared = set(source) & set(target)
    assert (source_weights > 0).tolist() == [label in shared for label in source]
    assert (target_weights > 0).tolist() == [label in shared for label in target]
    if not shared:
        return
    np.testing.assert_allclose(source_weights[source_weights > 0].mean(), 1)
    source_shares, target_shares = shares(source, source_weights), shares(target, target_weights)
    for label in shared:
        np.testing.assert_allclose(source_shares[label], target_shares[label])
