import numpy as np

from scvi_neuronedit.edit import feature_emd, signal_share


def test_nothing_of_a_difference_that_is_noise_and_nearly_all_of_a_large_one(rng):
    x, y = rng.normal(size=(500, 60)), rng.normal(size=(400, 60))
    y[:, 30:] += 1
    share = signal_share([(x, y)])
    assert (share[:30] == 0).mean() > 0.4
    assert share[:30].mean() < 0.25
    assert share[30:].min() > 0.98


def test_share_is_that_of_the_squared_distance_that_shuffling_does_not_explain(rng):
    x, y = rng.normal(size=(80, 1)), rng.normal(size=(80, 1)) + 0.5
    both = np.concatenate([x, y])
    shuffled = []
    for _ in range(2000):
        order = rng.permutation(160)
        shuffled.append(feature_emd(both[order[:80]], both[order[80:]])[0])
    expected = 1 - (np.mean(shuffled) / feature_emd(x, y)[0]) ** 2
    np.testing.assert_allclose(signal_share([(x, y)], n_permutations=500), expected, atol=0.02)


def test_distances_are_averaged_over_controls(rng):
    x = rng.normal(size=(300, 1))
    moved = signal_share([(x, x + 2), (x, x + 2)])
    once = signal_share([(x, x + 2), (x, x.copy())])
    assert moved > once > 0.8


def test_a_feature_that_does_not_differ_at_all_has_no_share():
    x = np.ones((30, 2))
    np.testing.assert_array_equal(signal_share([(x, x)]), [0, 0])
