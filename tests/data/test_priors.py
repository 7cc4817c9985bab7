import numpy as np
import pandas as pd
import pytest

from scvi_neuronedit.data import match_prior

GENES = ["a", "b", "c"]


def test_names_are_matched():
    values = np.arange(16).reshape(4, 4)
    prior = pd.DataFrame(values, index=list("dcba"), columns=list("abdc"))
    assert match_prior(prior, GENES).tolist() == [[12, 13, 15], [8, 9, 11], [4, 5, 7]]


def test_edges_are_matched_and_unknown_genes_ignored():
    edges = pd.DataFrame({"source": ["a", "c", "x"], "target": ["b", "a", "b"], "weight": [2, -1, 1]})
    assert match_prior(edges, GENES).tolist() == [[0, 2, 0], [0, 0, 0], [-1, 0, 0]]
    assert match_prior(edges.drop(columns="weight"), GENES).sum() == 2


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (np.ones((2, 3)), r"prior has shape \(2, 3\); 3 genes need \(3, 3\)"),
        (np.full((3, 3), np.nan), "prior holds NaN"),
        (np.zeros((3, 3)), "zero everywhere"),
        (pd.DataFrame(1, index=list("abd"), columns=list("abc")), "rows of prior lack 1 of 3 genes: 'c'"),
        (pd.DataFrame(1, index=list("abc"), columns=list("aab")), "more than one of the columns 'a'"),
        (pd.DataFrame({"source": ["x"], "target": ["y"]}), "zero everywhere"),
    ],
)
def test_bad_priors_are_refused(prior, message):
    with pytest.raises(ValueError, match=message):
        match_prior(prior, GENES)
