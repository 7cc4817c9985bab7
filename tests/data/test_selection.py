import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scvi_neuronedit.data import describe_selection, select_cells, storable_selection

OBS = pd.DataFrame(
    {
        "condition": ["ctrl", "ctrl", "stim", "stim"],
        "cell_type": ["B", "T", "B", "T"],
        "dose": [0, 1, 0, 2],
        "responds": [False, False, True, True],
    },
    index=["c1", "c2", "c3", "c4"],
)


@pytest.fixture
def cells():
    return AnnData(np.zeros((4, 2)), obs=OBS.copy())


SELECTIONS = [
    ("ctrl", [1, 1, 0, 0]),
    ({"cell_type": "B"}, [1, 0, 1, 0]),
    ({"cell_type": ["B", "T"], "condition": "stim"}, [0, 0, 1, 1]),
    ({"dose": [1, 2]}, [0, 1, 0, 1]),
    ({"dose": np.array([0])}, [1, 0, 1, 0]),
    (np.array([True, False, False, True]), [1, 0, 0, 1]),
    ([True, False, False, True], [1, 0, 0, 1]),
    (pd.Series([True, False, False, False], index=OBS.index), [1, 0, 0, 0]),
    (["c4", "c1"], [1, 0, 0, 1]),
    (pd.Index(["c2"]), [0, 1, 0, 0]),
    ({"dose": "1"}, [0, 1, 0, 0]),
    ({"responds": True}, [0, 0, 1, 1]),
    ({"responds": "True"}, [0, 0, 1, 1]),
    ({"dose": np.int64(2)}, [0, 0, 0, 1]),
]


@pytest.mark.parametrize(("selection", "expected"), SELECTIONS)
def test_forms(cells, selection, expected):
    mask = select_cells(cells, selection, argument="source", condition_key="condition")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, np.array(expected, dtype=bool))


@pytest.mark.parametrize("selection", [selection for selection, _ in SELECTIONS])
def test_a_stored_selection_selects_the_same_cells(cells, selection):
    stored = json.loads(json.dumps(storable_selection(cells, selection)))
    np.testing.assert_array_equal(
        select_cells(cells, stored, argument="source", condition_key="condition"),
        select_cells(cells, selection, argument="source", condition_key="condition"),
    )


@pytest.mark.parametrize(
    ("selection", "error", "message"),
    [
        (
            "stim2",
            ValueError,
            r"source 'stim2' is not in adata.obs\['condition'\] \('ctrl', 'stim'\); did you mean 'st",
        ),
        ("zzz", ValueError, r"source 'zzz' is not in adata.obs\['condition'\] \('ctrl', 'stim'\)\.$"),
        ({"cell_typ": "B"}, KeyError, "did you mean 'cell_type'"),
        ({"cell_type": ["B", "b"]}, ValueError, "source 'b' is not in"),
        ({"dose": 7}, ValueError, "source 7 is not in"),
        ({"cell_type": "B", "dose": 2}, ValueError, "source selects no cell: cell_type=B & dose=2"),
        ({"cell_type": []}, ValueError, "selects no cell"),
        (np.zeros(4, dtype=bool), ValueError, "selects no cell: mask of 0 cells"),
        (np.ones(3, dtype=bool), ValueError, "boolean mask of length 3; adata has 4 cells"),
        (pd.Series([True] * 4), ValueError, "index differs from adata.obs_names"),
        (["c1", "c9"], ValueError, "lists 1 names that are not in adata.obs_names: 'c9'"),
        (np.array([0, 1]), TypeError, "source is a ndarray; it must be a condition name"),
        (3, ValueError, "source 3 is not in"),
        ({}, ValueError, "source is an empty mapping"),
        ([], ValueError, "selects no cell"),
    ],
)
def test_bad_selections(cells, selection, error, message):
    with pytest.raises(error, match=message):
        select_cells(cells, selection, argument="source", condition_key="condition")


@pytest.mark.parametrize("condition", [1, np.int64(1), "1"])
def test_conditions_may_be_numbers(cells, condition):
    mask = select_cells(cells, condition, argument="source", condition_key="dose")
    np.testing.assert_array_equal(mask, [False, True, False, False])


def test_a_condition_needs_a_registered_column(cells):
    with pytest.raises(ValueError, match="no condition_key was registered"):
        select_cells(cells, "ctrl", argument="source")


def test_obs_names_must_be_unique(cells):
    cells.obs_names = ["c1", "c1", "c2", "c3"]
    with pytest.raises(ValueError, match="obs_names are not unique"):
        select_cells(cells, ["c1"], argument="source")


@pytest.mark.parametrize(
    ("selection", "text"),
    [
        ("ctrl", "ctrl"),
        ({"cell_type": ["B", "T"], "condition": "ctrl"}, "cell_type=B|T & condition=ctrl"),
        (np.array([True, False, True, True]), "mask of 3 cells"),
        (["c1", "c2"], "2 obs names"),
    ],
)
def test_descriptions(selection, text):
    assert describe_selection(selection) == text
