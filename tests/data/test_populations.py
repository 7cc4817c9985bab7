import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scvi_neuronedit.data import select_populations

KEYS = {"condition_key": "condition", "labels_key": "cell_type"}


@pytest.fixture
def cells():
    """ctrl: 30 B, 10 T, 5 NK; stim: 10 B, 20 T."""
    groups = [("ctrl", "B", 30), ("ctrl", "T", 10), ("ctrl", "NK", 5), ("stim", "B", 10), ("stim", "T", 20)]
    obs = pd.DataFrame([group[:2] for group in groups for _ in range(group[2])], columns=["condition", "cell_type"])
    obs.index = [f"c{i}" for i in range(len(obs))]
    return AnnData(np.zeros((len(obs), 1)), obs=obs)


def test_matched_by_hand(cells):
    with pytest.warns(UserWarning, match="left out of learning, .*: cell_type 'NK'"):
        found = select_populations(cells, "ctrl", "stim", **KEYS)
    np.testing.assert_array_equal(found.source, np.arange(40))
    np.testing.assert_array_equal(found.target, np.arange(45, 75))
    np.testing.assert_allclose(found.source_weights, [2 / 3] * 30 + [2] * 10)
    np.testing.assert_allclose(found.target_weights, [1.5] * 10 + [0.75] * 20)
    assert len(found.info.pop("cells")) == 16
    assert found.info == {
        "source": "ctrl",
        "target": "stim",
        "selection_source": "ctrl",
        "selection_target": "stim",
        "match_key": "cell_type",
        "labels": ["B", "T"],
        "n_source": 40,
        "n_target": 30,
    }


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_source_cells_of_labels_without_target_are_unpaired(cells):
    found = select_populations(cells, "ctrl", "stim", **KEYS)
    np.testing.assert_array_equal(found.unpaired[0], np.arange(40, 45))
    assert set(found.unpaired[1]) == {"NK"}
    without_t = found.leave_out(found.source_groups == "T", found.target_groups == "T")
    np.testing.assert_array_equal(without_t.source, np.arange(30))
    np.testing.assert_array_equal(without_t.target, np.arange(45, 55))
    assert without_t.unpaired[1].tolist() == ["NK"] * 5 + ["T"] * 10
    assert without_t.unpaired[0].tolist() == [*range(40, 45), *range(30, 40)]
    # part of a label leaves the others to be compared with
    part = found.leave_out(np.arange(40) < 10, np.arange(30) < 5)
    assert part.unpaired[1].tolist() == ["NK"] * 5


def test_not_matched(cells):
    found = select_populations(cells, "ctrl", "stim", condition_key="condition", labels_key=None)
    assert (len(found.source), len(found.target)) == (45, 30)
    assert found.source_weights is found.target_weights is found.unpaired is None
    assert "labels" not in found.info


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("ctrl", {"cell_type": "B"}, "source and target share 30 cells"),
        (
            {"cell_type": "B"},
            {"cell_type": "T"},
            r"share no value of adata.obs\['cell_type'\]; pass match_labels=False",
        ),
        ([f"c{i}" for i in range(19)], "stim", "source has 19 cells after matching on 'cell_type'; at least 20"),
    ],
)
@pytest.mark.filterwarnings("ignore:left out of learning")
def test_bad_populations(cells, source, target, message):
    with pytest.raises(ValueError, match=message):
        select_populations(cells, source, target, **KEYS)
