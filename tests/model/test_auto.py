"""Which cells ``method="auto"`` tries its candidates on."""

import numpy as np

from scvi_neuronedit.data import Populations
from scvi_neuronedit.model._auto import sample_populations


def populations(n_source, n_target, source_groups=None, target_groups=None):
    source, target = np.arange(n_source), np.arange(n_source, n_source + n_target)
    return Populations(source, target, None, None, source_groups, target_groups, {})


def test_labels_are_left_out_where_there_are_two_with_enough_cells():
    labels = np.repeat(["a", "b", "c"], [300, 40, 10]), np.repeat(["a", "b", "c"], [50, 50, 50])
    cells, (source_groups, target_groups) = sample_populations(populations(350, 150, *labels), 0)
    assert dict(zip(*np.unique(source_groups, return_counts=True), strict=True)) == {"a": 200, "b": 40}
    assert dict(zip(*np.unique(target_groups, return_counts=True), strict=True)) == {"a": 50, "b": 50}
    np.testing.assert_array_equal(labels[0][cells.source], source_groups)
    np.testing.assert_array_equal(labels[1][cells.target - 350], target_groups)


def test_otherwise_random_fifths_are():
    cells, (source_groups, target_groups) = sample_populations(populations(2000, 150), 0)
    assert np.unique(source_groups, return_counts=True)[1].tolist() == [200] * 5
    assert np.unique(target_groups, return_counts=True)[1].tolist() == [30] * 5
    assert cells.source_groups is None  # fifths are no cell types
    one_label = np.repeat("a", 2000), np.repeat("a", 150)
    cells, (source_groups, _) = sample_populations(populations(2000, 150, *one_label), 0)
    assert len(np.unique(source_groups)) == 5
    assert set(cells.source_groups) == {"a"}


def test_nothing_is_left_out_of_too_few_cells():
    assert sample_populations(populations(30, 1000), 0) is None
