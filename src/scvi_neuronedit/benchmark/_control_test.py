"""Learn the correction of a batch from one control sample, judge it on another."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scvi
from sklearn.decomposition import PCA

from scvi_neuronedit.benchmark._batch_methods import BatchTask
from scvi_neuronedit.benchmark._run import CEILING
from scvi_neuronedit.metrics import control_scores, feature_emd, feature_emd_interval, preservation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scvi_neuronedit.benchmark._batch_methods import BatchMethod


def run_control_test(
    adata: AnnData,
    methods: Sequence[BatchMethod],
    *,
    batch_key: str,
    control_key: str,
    n_components: int = 10,
    random_state: int = 0,
) -> pd.DataFrame:
    """Correct every batch towards every other, learning from one control sample and testing on another.

    Parameters
    ----------
    adata
        Cells of two or more batches and control samples, on the scale corrections are judged on, in ``X``.
    methods
        What is compared; see :class:`~scvi_neuronedit.benchmark.BatchMethod`. The truth, the cells of the test control
        in the reference batch, is taken out of what a method is given unless it says that it needs all cells. Where
        no value of ``adata`` is negative, negative values of corrections are set to 0.
    batch_key, control_key
        Columns of ``adata.obs`` with batch and control sample.
    n_components
        Number of principal components, fitted on all cells, in which ``edist`` is taken.
    random_state
        Seed of everything, set anew for each method.

    Returns
    -------
    A row for each method, ordered pair of batches (``source``, ``target``) and pair of controls (``control`` to learn from,
    ``test``), with

    ``emd``, ``emd_max``, ``edist``, ``ecorr``
        :func:`~scvi_neuronedit.metrics.control_scores` of the test control after correction, against the truth as measured.
    ``emd_own``
        The same as ``emd`` against the truth as the method returns it, which differs for those that move the
        reference as well.
    ``worse``
        Number of markers whose distance from the truth lies above the 95 % bootstrap interval of what it was before.
    ``preserved``
        :func:`~scvi_neuronedit.metrics.preservation` of the difference of the two controls within the batch.
    ``sees_truth``, ``seconds``, ``peak_mb``
        Whether the method was given the truth, its wall time, and by how much the peak resident memory of the
        process rose above what was in use at its start, libraries it loads included (Linux only, else NaN).

    The last method is the ceiling: one random half of the truth against the other.
    """
    batches, controls = (np.unique(adata.obs[key].dropna().astype(str)).tolist() for key in (batch_key, control_key))
    everything = BatchTask(adata, batch_key, control_key, batches[0], batches[0], controls[0])
    x, rng = everything.x, np.random.default_rng(random_state)
    pca = PCA(min(n_components, *(n - 1 for n in x.shape)), random_state=random_state).fit(x)
    rows, left_out = [], set()
    for (source, target), (control, test) in itertools.product(
        itertools.permutations(batches, 2), itertools.permutations(controls, 2)
    ):
        at = {pair: everything.cells(*pair) for pair in itertools.product((source, target), (control, test))}
        if not all(mask.any() for mask in at.values()):
            continue
        is_truth = at[target, test]
        truth, before, learnt_on = x[is_truth], x[at[source, test]], x[at[source, control]]
        highest = feature_emd_interval(before, truth, random_state=random_state)[1]
        without_truth = adata[~is_truth].copy()
        where = {"source": source, "target": target, "control": control, "test": test}
        for method in methods:
            if method.name in left_out:
                continue
            cells = adata if method.sees_truth else without_truth
            task = BatchTask(cells, batch_key, control_key, source, target, control)
            scvi.settings.seed = random_state
            measure = _Measure()
            try:
                corrected = method(task)
            except ImportError as error:
                warnings.warn(f"{method.name} is left out: {error}.", UserWarning, stacklevel=2)
                left_out.add(method.name)
                continue
            used = measure.stop()
            corrected = np.asarray(corrected, dtype=np.float32)
            if x.min() >= 0:
                corrected = np.maximum(corrected, 0)
            after = corrected[task.cells(source, test)]
            own = corrected[task.cells(target, test)] if method.sees_truth else truth
            rows.append(
                {
                    "method": method.name,
                    **where,
                    **control_scores(after, truth, pca),
                    "emd_own": float(feature_emd(after, own).mean()),
                    "worse": int((feature_emd(after, truth) > highest).sum()),
                    "preserved": preservation((learnt_on, before), (corrected[task.cells(source, control)], after)),
                    "sees_truth": method.sees_truth,
                    **used,
                }
            )
        first, second = (truth[half] for half in np.array_split(rng.permutation(len(truth)), 2))
        scores = control_scores(first, second, pca)
        rows.append({"method": CEILING, **where, **scores, "emd_own": scores["emd"], "sees_truth": True})
    return pd.DataFrame(rows)


def summarize_control_test(results: pd.DataFrame) -> pd.DataFrame:
    """Mean of every score and of the seconds over tasks, maximum of the memory, in the order methods were run.

    Parameters
    ----------
    results
        As :func:`run_control_test` returns them.

    Returns
    -------
    A row for each method; ``change`` is that of ``emd`` from the first method, as a share.
    """
    scores = ["emd", "emd_own", "emd_max", "edist", "ecorr", "worse", "preserved", "seconds"]
    by_method = results.groupby("method", sort=False)
    table = by_method[scores].mean()
    table.insert(1, "change", table["emd"] / table["emd"].iloc[0] - 1)
    return table.join(by_method[["peak_mb", "sees_truth"]].max())


class _Measure:
    """Wall time, and the rise of the peak resident memory, of what runs between its making and ``stop``."""

    def __init__(self) -> None:
        gc.collect()
        with contextlib.suppress(
            OSError, AttributeError
        ):  # glibc: hand freed memory back, so that using it again counts
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        reset = Path("/proc/self/clear_refs")  # on Linux, writing 5 sets the peak back to what is in use (proc(5))
        if reset.exists():
            reset.write_text("5")
        self.memory, self.start = _peak_mb(), time.perf_counter()

    def stop(self) -> dict[str, float]:
        seconds = time.perf_counter() - self.start
        return {"seconds": seconds, "peak_mb": _peak_mb() - self.memory}


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024
