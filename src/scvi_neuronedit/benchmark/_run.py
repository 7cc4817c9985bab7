"""Run methods over splits and report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from scvi_neuronedit.benchmark._methods import Task
from scvi_neuronedit.benchmark._splits import leave_one_group_out
from scvi_neuronedit.data import MatrixReader
from scvi_neuronedit.metrics import prediction_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from anndata import AnnData

    from scvi_neuronedit.benchmark._methods import Method

CEILING = "half of the truth against the other"


def run_leave_one_out(
    adata: AnnData,
    methods: Sequence[Method],
    *,
    condition_key: str,
    labels_key: str,
    source: str,
    target: str,
    n_components: int = 30,
    min_cells: int = 35,
    random_state: int = 0,
) -> pd.DataFrame:
    """Hold out the target cells of each group in turn and score every method's prediction of them.

    Parameters
    ----------
    adata
        Cells of several groups in both conditions, on the scale predictions are judged on, in ``X``.
    methods
        What is compared; see :class:`~scvi_neuronedit.benchmark.Method`.
    condition_key, labels_key
        Columns of ``adata.obs`` with the condition and the group.
    source, target
        The two conditions.
    n_components
        Number of principal components, fitted on all cells, in which ``edist`` is taken.
    min_cells
        Groups with fewer cells than this in either condition are not held out.
    random_state
        Seed of the principal components and of the halves.

    Returns
    -------
    A row for each prediction and group: ``method``, ``group``, ``seconds`` (of the method call, shared by the
    predictions it returns) and the scores of :func:`~scvi_neuronedit.metrics.prediction_scores`. The last method is
    the ceiling: one random half of the held-out cells taken as the prediction of the other.
    """
    x = MatrixReader(adata, None)(np.arange(adata.n_obs))
    pca = PCA(min(n_components, *(n - 1 for n in x.shape)), random_state=random_state).fit(x)
    rng = np.random.default_rng(random_state)
    rows = []
    for split in leave_one_group_out(
        adata, condition_key=condition_key, labels_key=labels_key, source=source, target=target, min_cells=min_cells
    ):
        task = Task(adata, split, condition_key, labels_key, source, target)
        control, truth = task.control, task.truth
        for method in methods:
            start = time.perf_counter()
            predictions = method(task)
            seconds = time.perf_counter() - start
            for name, predicted in predictions.items():
                scores = prediction_scores(predicted, truth, control, pca)
                rows.append({"method": name, "group": split.group, "seconds": seconds, **scores})
        first, second = np.array_split(rng.permutation(len(truth)), 2)
        scores = prediction_scores(truth[first], truth[second], control, pca)
        rows.append({"method": CEILING, "group": split.group, "seconds": 0.0, **scores})
    return pd.DataFrame(rows)


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Mean of every score over groups, in the order in which methods were run.

    Parameters
    ----------
    results
        As :func:`run_leave_one_out` returns them.
    """
    numbers = results.drop(columns="group").groupby("method", sort=False).mean()
    return numbers[[column for column in numbers if column != "seconds"] + ["seconds"]]


def print_report(results: pd.DataFrame) -> None:
    """Print the mean scores of every method, and its energy distance for each group.

    Parameters
    ----------
    results
        As :func:`run_leave_one_out` returns them.
    """
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(f"mean over {results['group'].nunique()} groups left out in turn")
        print(summarize(results).round(3).to_string())
        print("\negene, ratio to unchanged control, for each group")
        per_group = results.pivot(index="method", columns="group", values="egene_ratio")
        print(per_group.loc[results["method"].unique()].round(3).to_string())


def write_json(results: pd.DataFrame, path: str | PathLike) -> None:
    """Write results as a list of records.

    Parameters
    ----------
    results
        Any table.
    path
        File to write.
    """
    Path(path).write_text(json.dumps(json.loads(results.to_json(orient="records")), indent=1) + "\n")
