import numpy as np
import pytest

from scvi_neuronedit.benchmark import leave_one_group_out

ARGUMENTS = {"condition_key": "condition", "labels_key": "cell_type", "source": "ctrl", "target": "stim"}


def test_each_group_is_held_out_once(adata):
    splits = leave_one_group_out(adata, **ARGUMENTS)
    assert [split.group for split in splits] == sorted(adata.obs["cell_type"].cat.categories)
    for split in splits:
        assert set(adata.obs["cell_type"].iloc[split.control]) == {split.group}
        assert set(adata.obs["condition"].iloc[split.control]) == {"ctrl"}
        held_out = adata.obs[~split.train]
        assert set(zip(held_out["cell_type"], held_out["condition"], strict=True)) == {(split.group, "stim")}
        np.testing.assert_array_equal(np.flatnonzero(~split.train), split.truth)


def test_small_groups_are_not_held_out(adata):
    few = np.flatnonzero((adata.obs["cell_type"] == "type_2") & (adata.obs["condition"] == "stim"))[5:]
    adata = adata[np.setdiff1d(np.arange(adata.n_obs), few)]
    assert "type_2" not in [split.group for split in leave_one_group_out(adata, **ARGUMENTS)]
    with pytest.raises(ValueError, match="no group of .* has 9999 cells in both 'ctrl' and 'stim'"):
        leave_one_group_out(adata, **ARGUMENTS, min_cells=9999)
