import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scvi_neuronedit.data import trajectories_in_order


def adata(times, trajectories):
    obs = pd.DataFrame({"time": times, "sample": trajectories}, index=[f"c{i}" for i in range(len(times))])
    return AnnData(np.zeros((len(times), 2), dtype=np.float32), obs=obs)


def test_rows_are_sorted_within_trajectories():
    rows = trajectories_in_order(adata([3, 1, 2, 5, 4], list("aabba")), "time", "sample")
    assert [r.tolist() for r in rows] == [[1, 0, 4], [2, 3]]


def test_without_a_key_all_rows_are_one_trajectory():
    (rows,) = trajectories_in_order(adata([3, 1, 2], list("aab")), "time", None)
    assert rows.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("times", "trajectories", "message"),
    [
        ([0, 1, 1], "aaa", "more than one row at time 1"),
        ([0, 1, 0], "aab", "1 of 2 trajectories have a single point.*'b'"),
        ([0, np.nan], "aa", "no value for 1 of 2"),
        ([0, np.inf], "aa", "infinite"),
    ],
)
def test_bad_times_are_refused(times, trajectories, message):
    with pytest.raises(ValueError, match=message):
        trajectories_in_order(adata(times, list(trajectories)), "time", "sample")


def test_columns_are_checked():
    with pytest.raises(KeyError, match="did you mean 'sample'"):
        trajectories_in_order(adata([0, 1], "aa"), "time", "samples")
    with pytest.raises(TypeError, match="must hold numbers"):
        trajectories_in_order(adata(["d0", "d1"], "aa"), "time", None)
