import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scvi_neuronedit.data import (
    DosageCode,
    find_dosages,
    read_dosages,
    warn_of_inseparable_perturbations,
    warn_of_rare_perturbations,
)

LABELS = ["ctrl", "A", "B", "A+B", "C+ctrl"]


@pytest.fixture
def code() -> DosageCode:
    return DosageCode.from_labels(LABELS, "ctrl", "+")


def test_labels_become_dosages(code):
    assert code.names == ("A", "B", "C")
    matrix = code.matrix(pd.Series(["B+A", "ctrl", "C+ctrl", "ctrl+ctrl", "A"]))
    np.testing.assert_array_equal(matrix.toarray(), [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("perturbation", "expected", "label"),
    [
        ("A", [1, 0, 0], "A"),
        ("A+C", [1, 0, 1], "A+C"),
        (["C", "A"], [1, 0, 1], "C+A"),
        ({"A": 0.5, "B": 2}, [0.5, 2, 0], "A:0.5+B:2"),
        ("ctrl", [0, 0, 0], "ctrl"),
        ({}, [0, 0, 0], "ctrl"),
        (["A", "ctrl"], [1, 0, 0], "A+ctrl"),
    ],
)
def test_perturbations_have_several_forms(code, perturbation, expected, label):
    np.testing.assert_array_equal(code.dosage(perturbation), np.array(expected, dtype=np.float32))
    assert code.label(perturbation) == label


def test_combinations_can_be_perturbations_of_their_own():
    code = DosageCode.from_labels(LABELS, "ctrl", "+", combinations_as_unique=True)
    assert code.names == ("A", "A+B", "B", "C")
    np.testing.assert_array_equal(code.dosage(["B", "A"]), [0, 1, 0, 0])
    np.testing.assert_array_equal(code.dosage("B+A"), [0, 1, 0, 0])
    np.testing.assert_array_equal(code.dosage({"A": 1.0, "B": 1.0, "C": 0.0}), [0, 1, 0, 0])
    np.testing.assert_array_equal(code.dosage({"A": 0.5}), [0.5, 0, 0, 0])
    with pytest.raises(ValueError, match="the dosages of a combination are 1"):
        code.dosage({"A": 1.0, "B": 0.5})
    with pytest.raises(ValueError, match=r"'A\+C' was not seen in training.*combinations_as_unique=False"):
        code.dosage(["A", "C"])


@pytest.mark.parametrize(
    ("perturbation", "message"),
    [
        ("D", r"perturbation 'D' is not in the perturbations the model was registered with \('A', 'B', 'C'\)"),
        (["A", "A"], "names one twice"),
        ("A+A", "names a perturbation twice"),
        (["A+B", "C"], r"holds the separator '\+': pass the names of a combination one by one"),
        ({"A": -1.0}, "dosage of 'A' is -1.0; it must be finite and not negative"),
        ({"A": float("nan")}, "dosage of 'A' is nan"),
    ],
)
def test_perturbations_that_cannot_be_predicted_are_refused(code, perturbation, message):
    with pytest.raises(ValueError, match=message):
        code.dosage(perturbation)


def test_a_missing_control_is_named_with_the_nearest_label():
    with pytest.raises(ValueError, match=r"control 'control' is not in .*; did you mean 'ctrl'\?"):
        DosageCode.from_labels(LABELS, "control", "+")


@pytest.mark.parametrize("label", ["CD4+", "+A", "A++B"])
def test_a_separator_at_the_edge_of_a_name_is_refused(label):
    with pytest.raises(ValueError, match=r"has an empty part between separators '\+'.*pass another separator"):
        DosageCode.from_labels(["ctrl", label], "ctrl", "+")


def test_another_separator_leaves_names_whole():
    code = DosageCode.from_labels(["ctrl", "CD4+", "CD4+|B"], "ctrl", "|")
    assert code.names == ("B", "CD4+")


def test_a_control_may_hold_the_separator():
    assert DosageCode.from_labels(["no+guide", "A"], "no+guide", "+").names == ("A",)


def test_a_name_that_holds_the_separator_is_noticed():
    code = DosageCode.from_labels(["ctrl", "HLA+DRA", "A"], "ctrl", "+")
    labels = pd.Series(["ctrl", "HLA+DRA", "HLA+DRA", "A"])
    with pytest.warns(UserWarning, match=r"'DRA', 'HLA' were only given together.*pass another separator"):
        warn_of_inseparable_perturbations(code.matrix(labels), code.names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = pd.Series(["ctrl", "A", "B", "A+B", "C"])
        code = DosageCode.from_labels(labels.tolist(), "ctrl", "+")
        warn_of_inseparable_perturbations(code.matrix(labels), code.names)


def test_rare_perturbations_are_named():
    with pytest.warns(UserWarning, match=r"fewer than 10 cells.*'B \(9\)'.$"):
        warn_of_rare_perturbations({"A": 10, "B": 9})


def with_dosages(values, names=("A", "B")) -> AnnData:
    adata = AnnData(np.zeros((3, 2), dtype=np.float32))
    if isinstance(values, list):
        values = pd.DataFrame(values, columns=list(names), index=adata.obs_names)
    adata.obsm["dose"] = values
    return adata


@pytest.mark.parametrize("form", [list, np.array, sparse.csr_matrix])
def test_dosages_are_read_from_any_matrix(form):
    values = [[0.0, 0.5], [0.0, 0.0], [2.0, 1.0]]
    matrix, names = read_dosages(with_dosages(values if form is list else form(np.array(values))), "dose")
    np.testing.assert_array_equal(matrix.toarray(), np.array(values, dtype=np.float32))
    assert names == (["A", "B"] if form is list else ["0", "1"])


@pytest.mark.parametrize(
    ("value", "what"),
    [(-0.1, "1 negative dosages, of 'B'"), (np.nan, "1 NaN or infinite"), (np.inf, "NaN or infinite")],
)
def test_wrong_dosages_are_refused(value, what):
    with pytest.raises(ValueError, match=what):
        read_dosages(with_dosages([[0.0, value], [1.0, 0.0], [0.0, 0.0]]), "dose")


def test_dosages_are_found_by_name():
    code = DosageCode(("B", "A"), None, "+")
    keys = {"perturbation_key": None, "dosage_key": "dose"}
    adata = with_dosages([[0.0, 0.5], [0.0, 0.0], [2.0, 1.0]])
    np.testing.assert_array_equal(find_dosages(adata, code, **keys).toarray(), [[0.5, 0], [0, 0], [1, 2]])
    with pytest.raises(ValueError, match="column of adata.obsm\\['dose'\\] 'C' is not in the perturbations"):
        find_dosages(with_dosages([[0.0, 0.5]] * 3, ("A", "C")), code, **keys)
    with pytest.raises(KeyError, match="dosage_key 'dosage' is not in adata.obsm.*did you mean 'dose'"):
        find_dosages(adata, code, perturbation_key=None, dosage_key="dosage")
