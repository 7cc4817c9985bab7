import json

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from scvi_neuronedit.benchmark import (
    CEILING,
    BatchTask,
    ComBat,
    CytoNorm,
    CytoVI,
    Harmony,
    MeanShift,
    NeuronEditCorrection,
    NoCorrection,
    QuantileCorrection,
    run_control_test,
    summarize_control_test,
    write_json,
)
from scvi_neuronedit.metrics import feature_emd

KEYS = {"batch_key": "batch", "control_key": "control"}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture
def cells(rng):
    """Two cell types in two controls, which hold them in different shares; batch b is batch a, 1.5 times plus 1."""
    values, obs = [], []
    for batch in "ab":
        for control, share in (("1", 0.5), ("2", 0.7)):
            is_first = rng.random(300) < share
            x = rng.normal(np.where(is_first[:, None], [2, 8, 5, 4], [6, 3, 5, 4]), 0.5)
            values.append(1.5 * x + 1 if batch == "b" else x)
            obs += [{"batch": batch, "control": control}] * 300
    return sc.AnnData(np.concatenate(values).astype(np.float32), obs=pd.DataFrame(obs).set_axis(map(str, range(1200))))


@pytest.fixture
def task(cells):
    return BatchTask(cells, **KEYS, source="a", target="b", control="1")


def corrected(task, method):
    """The test control of the batch after correction, and the truth."""
    values = method(task)
    assert values.shape == task.adata.shape
    if not method.sees_truth:
        np.testing.assert_allclose(values[task.cells("b")], task.x[task.cells("b")], atol=0.05)
    return values[task.cells("a", "2")], values[task.cells("b", "2")]


def test_every_task_is_run_and_scored(cells):
    results = run_control_test(cells, [NoCorrection(), MeanShift(), QuantileCorrection()], **KEYS)
    assert len(results) == 4 * 4  # two directions, two roles; three methods and the ceiling
    first = results[(results["source"] == "a") & (results["control"] == "1")].set_index("method")
    assert (first["target"] == "b").all()
    assert (first["test"] == "2").all()
    task = BatchTask(cells, **KEYS, source="a", target="b", control="1")
    emd = feature_emd(task.x[task.cells("a", "2")], task.x[task.cells("b", "2")])
    assert first.loc["none", "emd"] == pytest.approx(emd.mean())
    assert first.loc["none", "emd_max"] == pytest.approx(emd.max())
    assert first.loc["none", ["worse", "preserved"]].tolist() == [0, 1]
    assert first.loc["mean shift", "preserved"] == pytest.approx(1)
    assert first.loc["quantile per marker", "preserved"] == pytest.approx(1.5, abs=0.1)  # the true stretch
    table = summarize_control_test(results)
    assert list(table.index) == ["none", "mean shift", "quantile per marker", CEILING]
    assert table["emd"].is_monotonic_decreasing
    assert table.loc["quantile per marker", "change"] == pytest.approx(
        table.loc["quantile per marker", "emd"] / table.loc["none", "emd"] - 1
    )
    assert table.loc["quantile per marker", "change"] < -0.8
    assert not table["sees_truth"][:3].any()


def test_the_truth_is_taken_out_unless_a_method_needs_it(cells):
    seen = []

    class Look(NoCorrection):
        def __call__(self, task):
            seen.append((self.sees_truth, task))
            return task.x

    run_control_test(cells, [Look("blind"), Look("joint", sees_truth=True)], **KEYS)
    assert len(seen) == 8
    for sees_truth, task in seen:
        test = ({"1", "2"} - {task.control}).pop()
        assert task.cells(task.target, test).sum() == (300 if sees_truth else 0)
        assert task.cells(task.source, test).sum() == 300


def test_a_package_that_is_missing_is_left_out(cells):
    class Missing(NoCorrection):
        def __call__(self, task):
            import a_package_that_is_missing  # noqa: F401

    with pytest.warns(UserWarning, match="none is left out: No module named 'a_package_that_is_missing'") as warned:
        results = run_control_test(cells, [Missing(), MeanShift()], **KEYS)
    assert len(warned) == 1
    assert set(results["method"]) == {"mean shift", CEILING}


def test_memory_and_seconds(cells):
    class Greedy(NoCorrection):
        def __call__(self, task):
            np.ones(2**25).sum()  # 256 MB
            return task.x

    results = run_control_test(cells, [Greedy("greedy"), NoCorrection()], **KEYS).set_index("method")
    assert (results.loc[["greedy", "none"], "seconds"] > 0).all()
    if results.loc["none", "peak_mb"].notna().all():  # Linux
        assert results.loc["greedy", "peak_mb"].between(250, 350).all()
        assert (results.loc["none", "peak_mb"] < 50).all()


def test_json(cells, tmp_path):
    write_json(run_control_test(cells, [NoCorrection()], **KEYS), tmp_path / "r.json")
    records = json.loads((tmp_path / "r.json").read_text())
    assert records[0]["method"] == "none"
    assert {"emd", "emd_max", "edist", "ecorr", "worse", "preserved", "seconds", "peak_mb"} <= set(records[0])


def test_quantiles_of_an_affine_change_are_exact_also_outside_the_control(cells):
    task = BatchTask(cells, **KEYS, source="a", target="b", control="1")
    x = task.x
    x[task.cells("b", "1")] = 1.5 * x[task.cells("a", "1")] + 1
    x[task.cells("a", "2")] *= 3
    cells.X = x
    values = QuantileCorrection()(task)
    np.testing.assert_allclose(values[task.cells("a")], 1.5 * x[task.cells("a")] + 1, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(values[task.cells("b")], x[task.cells("b")])


def test_clusters_have_quantiles_of_their_own(cells):
    """Cell types that move in opposite directions need clusters."""
    task = BatchTask(cells, **KEYS, source="a", target="b", control="1")
    x = task.x
    x[task.cells("b")] = (x[task.cells("b")] - 1) / 1.5
    is_first = x[:, 0] < 4
    truth = x + np.where(is_first, 0.4, -0.4)[:, None] * task.cells("a")[:, None]
    x[task.cells("b")] += np.where(is_first, 0.4, -0.4)[task.cells("b"), None]
    cells.X = x
    test = task.cells("a", "2")
    errors = {n: np.abs(QuantileCorrection(n)(task)[test] - truth[test])[:, 2:].mean() for n in (1, 2)}
    assert errors[2] < 0.15 < 0.3 < errors[1]


@pytest.mark.parametrize("method", [QuantileCorrection(), QuantileCorrection(3)])
def test_quantiles_leave_constant_markers_and_small_clusters(cells, method):
    x = BatchTask(cells, **KEYS, source="a", target="b", control="1").x
    x[:, 3] = 7
    cells.X = x
    task = BatchTask(cells[::7].copy(), **KEYS, source="a", target="b", control="1")  # clusters below 50 cells
    values = method(task)
    assert (values[:, 3] == 7).all()
    if method.n_clusters == 3:
        np.testing.assert_array_equal(values, task.x)


def test_combat_puts_both_batches_on_one_scale(task):
    source, target = corrected(task, ComBat())
    assert feature_emd(source, target).mean() < 0.25
    assert feature_emd(task.x[task.cells("a", "2")], task.x[task.cells("b", "2")]).mean() > 2


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_cytovi_decodes_to_the_scale_of_the_reference(task):
    method = CytoVI(train={"max_epochs": 3, **QUIET})
    source, _ = corrected(task, method)
    trained = method._trained[1]
    assert np.isfinite(source).all()
    assert np.abs(source).max() < 2 * task.x.max()
    back = BatchTask(task.adata, **KEYS, source="b", target="a", control="1")
    method(back)
    assert method._trained[1] is trained
    other = BatchTask(task.adata.copy(), **KEYS, source="b", target="a", control="1")
    method(other)
    assert method._trained[1] is not trained


def test_harmony_moves_batches_together(task):
    pytest.importorskip("harmonypy", reason="harmonypy is not installed")
    x = task.x
    x[task.cells("b")] = (x[task.cells("b")] - 1) / 1.5 + 1  # a shift that is small beside the cell types
    task.adata.X = x
    source, target = corrected(task, Harmony())
    assert feature_emd(source, target).mean() < 0.4
    assert feature_emd(x[task.cells("a", "2")], x[task.cells("b", "2")]).mean() > 0.9


def test_cytonorm_learns_from_the_control(task):
    pytest.importorskip("cytonormpy", reason="cytonormpy is not installed")
    source, target = corrected(task, CytoNorm(n_clusters=2))
    assert feature_emd(source, target).mean() < 0.3


def test_neuron_edit_learns_from_the_control(task):
    method = NeuronEditCorrection(
        correct={"method": "percentile", "layers": ("code", "output")},
        model={"hidden": (16,), "n_latent": 4},
        train={"max_epochs": 20, **QUIET},
    )
    source, target = corrected(task, method)
    assert feature_emd(source, target).mean() < 0.4
