import numpy as np
import pytest

from scvi_neuronedit.edit import GroupGaussianMap, GroupMap, NeighborMap, PairsMap, PercentileMap, find_groups


@pytest.fixture
def source(rng):
    """Two groups far from each other."""
    return np.concatenate([rng.normal(0, 1, (60, 3)), rng.normal(20, 1, (50, 3))])


@pytest.fixture
def target(source, rng):
    """Each group shifts in its own way; cells in another order."""
    shift = np.where(np.arange(110)[:, None] < 60, [1.0, 0, 0], [0, -2.0, 0])
    return (source + shift + rng.normal(0, 0.1, source.shape))[::-1]


GROUPS = np.repeat(["a", "b"], [60, 50]), np.repeat(["b", "a"], [50, 60])


def test_neighbor_gives_the_mean_shift_of_the_nearest_source_cells(rng, source, target):
    query = rng.normal(size=(20, 3))
    edited = NeighborMap(n_neighbors=7).fit(source, target)(query)
    shift = PercentileMap().fit(source, target)(source) - source
    for i, cell in enumerate(query):
        nearest = np.argsort(np.linalg.norm(source - cell, axis=1))[:7]
        np.testing.assert_allclose(edited[i], cell + shift[nearest].mean(axis=0))


def test_group_by_hand(source, target):
    group = GroupMap(n_neighbors=20).fit(source, target, groups=GROUPS)
    shifts = {
        name: target[GROUPS[1] == name].mean(axis=0) - source[GROUPS[0] == name].mean(axis=0) for name in ("a", "b")
    }
    query = np.array([[0.0, 0, 0], [20, 20, 20]])
    np.testing.assert_allclose(group(query) - query, [shifts["a"], shifts["b"]])


def test_a_cell_between_groups_gets_a_mixture(source, target):
    group = GroupMap(n_neighbors=110).fit(source, target, groups=GROUPS)
    shifts = [target[GROUPS[1] == name].mean(axis=0) - source[GROUPS[0] == name].mean(axis=0) for name in ("a", "b")]
    query = np.array([[10.0, 10, 10]])
    np.testing.assert_allclose(group(query) - query, [(60 * shifts[0] + 50 * shifts[1]) / 110])


def test_groups_are_found_where_none_are_given(source, target):
    found = find_groups(source, target, 2)
    for ours, true in zip(found, GROUPS, strict=True):
        assert len(set(zip(ours, true, strict=True))) == 2
    query = source[:5]
    given = GroupMap().fit(source, target, groups=GROUPS)
    np.testing.assert_allclose(GroupMap(n_groups=2).fit(source, target)(query), given(query))


def test_small_groups_take_the_shift_of_all(source, target):
    groups = GROUPS[0].copy(), GROUPS[1].copy()
    groups[0][:9] = "few"
    group = GroupMap(n_neighbors=1).fit(source, target, groups=groups)
    overall = target.mean(axis=0) - source.mean(axis=0)
    np.testing.assert_allclose(group(source[:1]) - source[:1], overall[None])


@pytest.fixture
def stretched(rng):
    """Two groups that shift and, along the first neuron, come to vary twice as much."""
    source, target = (rng.normal(0, 1, (800, 3)) + np.repeat([[0.0], [20.0]], 400, axis=0) for _ in range(2))
    center = np.repeat([[0.0], [20.0]], 400, axis=0)
    target = center + (target - center) * [2, 1, 1] + [0, 5, 0]
    groups = np.repeat(["a", "b"], 400)
    return source, target, (groups, groups)


def test_group_gaussian_moves_cells_within_their_group_too(stretched):
    source, target, groups = stretched
    edited = GroupGaussianMap().fit(source, target, groups=groups)(source)
    for name in ("a", "b"):
        found, true = edited[groups[0] == name], target[groups[1] == name]
        np.testing.assert_allclose(found.mean(axis=0), true.mean(axis=0), atol=0.05)
        np.testing.assert_allclose(found.std(axis=0), [2, 1, 1], rtol=0.1)
        # the plain group map shifts all alike
        alike = GroupMap().fit(source, target, groups=groups)(source)[groups[0] == name]
        np.testing.assert_allclose(alike.std(axis=0), source[groups[0] == name].std(axis=0))


def test_a_group_the_target_lacks_keeps_its_own_mean(rng, stretched):
    source, target, groups = stretched
    lone = rng.normal(0, 1, (400, 3)) + [60, 20, 20]
    known = GroupGaussianMap().fit(source, target, groups=groups, unpaired=(lone, np.repeat("lone", 400)))(lone)
    unknown = GroupGaussianMap().fit(source, target, groups=groups)(lone)
    np.testing.assert_allclose(known.mean(axis=0), lone.mean(axis=0) + [0, 5, 0], atol=0.25)
    np.testing.assert_allclose(known.std(axis=0), [2, 1, 1], rtol=0.15)
    # without it cells so far out are displaced by no more than cells of known groups are
    group = GroupMap().fit(source, target, groups=groups)(lone)
    assert np.linalg.norm(unknown - group, axis=1).max() < 4


def test_pairs_by_hand(rng, source, target):
    edited = PairsMap(n_neighbors=6).fit(source, target)(source[:8])
    overall = target.mean(axis=0) - source.mean(axis=0)
    for cell, found in zip(source[:8], edited, strict=True):
        near_source = np.argsort(np.linalg.norm(source - cell, axis=1))[:6]
        near_target = np.argsort(np.linalg.norm(target - cell - overall, axis=1))[:6]
        expected = cell + target[near_target].mean(axis=0) - source[near_source].mean(axis=0)
        np.testing.assert_allclose(found, expected)


def test_neighbor_with_one_neighbor_is_the_percentile_edit_of_the_source(source, target):
    edited = NeighborMap(n_neighbors=1).fit(source, target)(source)
    np.testing.assert_allclose(edited, PercentileMap().fit(source, target)(source))


@pytest.mark.parametrize("each", [NeighborMap, GroupMap, GroupGaussianMap, PairsMap])
def test_few_cells(rng, each):
    source, target = rng.normal(size=(10, 2)), rng.normal(2, 1, (12, 2))
    edited = each(n_neighbors=50).fit(source, target)(source)
    assert edited.shape == (10, 2)
    assert np.isfinite(edited).all()


@pytest.mark.parametrize("each", [NeighborMap, GroupMap, GroupGaussianMap, PairsMap])
def test_reference_is_a_seeded_sample(source, target, each):
    maps = [each(max_reference=40, random_state=seed).fit(source, target) for seed in (0, 0, 1)]
    assert maps[0].source_.shape == (40, 3)
    np.testing.assert_array_equal(maps[0].source_, maps[1].source_)
    assert not np.array_equal(maps[0].source_, maps[2].source_)


def test_inverse_of_group_gaussian_brings_groups_back(stretched):
    source, target, groups = stretched
    back = GroupGaussianMap().fit(source, target, groups=groups).inverse()(target)
    for name in ("a", "b"):
        found, true = back[groups[0] == name], source[groups[0] == name]
        np.testing.assert_allclose(found.mean(axis=0), true.mean(axis=0), atol=0.05)
        np.testing.assert_allclose(found.std(axis=0), true.std(axis=0), rtol=0.1)


def test_a_change_of_composition_is_no_change_of_variance(rng):
    sizes, spread = {"source": (900, 100), "target": (100, 900)}, (1.0, 3.0)
    source, target = (
        np.concatenate([rng.normal(10 * i, spread[i], (n, 3)) for i, n in enumerate(sizes[side])]) for side in sizes
    )
    groups = tuple(np.repeat(["narrow", "wide"], size) for size in sizes.values())
    fitted = GroupGaussianMap().fit(source, target + 1, groups=groups)
    np.testing.assert_allclose(fitted.matrix_, np.eye(3), atol=0.12)


def test_group_gaussian_of_neurons_that_do_not_vary(rng):
    dead = np.concatenate([rng.normal(size=(60, 2)), np.ones((60, 1))], axis=1)
    fitted = GroupGaussianMap(regularization=0).fit(dead, dead + 2)
    np.testing.assert_allclose(fitted(dead)[:, 2], 3)
    assert np.isfinite(fitted.inverse()(dead)).all()
    constant = np.ones((30, 2))
    np.testing.assert_allclose(GroupGaussianMap().fit(constant, constant + 1)(constant), 2)
    with pytest.raises(ValueError, match="regularization=-1; it must not be negative"):
        GroupGaussianMap(regularization=-1)


@pytest.mark.parametrize("each", [NeighborMap, GroupMap, PairsMap])
def test_inverse_is_the_map_learnt_in_the_other_direction(source, target, each):
    inverse = each().fit(source, target, groups=GROUPS).inverse()
    np.testing.assert_allclose(inverse(target), each().fit(target, source, groups=GROUPS[::-1])(target))


def test_neighbors_of_wide_layers_are_found_in_principal_components(rng):
    code = rng.normal(size=(150, 5)) @ rng.normal(size=(5, 200))
    group = GroupMap(n_neighbors=3).fit(code, code + 1)
    assert group.source_.shape == (150, 50)
    np.testing.assert_allclose(group(code) - code, 1)
    two_groups = np.repeat([0, 1], 75)
    wider = GroupGaussianMap().fit(code, 2 * code, groups=(two_groups, two_groups))
    np.testing.assert_allclose(wider(code).std(axis=0), 2 * code.std(axis=0), rtol=0.1)
    wide = NeighborMap(n_neighbors=3).fit(code, 2 * code)
    shift = PercentileMap().fit(code, 2 * code)(code) - code
    nearest = np.argsort(np.linalg.norm(code - code[0], axis=1))[:3]  # distances are kept: five dimensions vary
    np.testing.assert_allclose(wide(code[:1])[0] - code[0], shift[nearest].mean(axis=0))
