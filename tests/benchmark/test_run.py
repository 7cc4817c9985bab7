import json

import numpy as np
import pytest

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.benchmark import (
    CEILING,
    NeuronEditMethod,
    gene_mean_shift,
    print_report,
    run_leave_one_out,
    summarize,
    unchanged,
    write_json,
)

ARGUMENTS = {"condition_key": "condition", "labels_key": "cell_type", "source": "ctrl", "target": "stim"}


@pytest.fixture
def results(adata):
    return run_leave_one_out(adata, [unchanged, gene_mean_shift], **ARGUMENTS)


def test_every_method_is_scored_on_every_group(results):
    assert results.groupby("method")["group"].nunique().to_dict() == {
        "unchanged control": 4,
        "gene mean shift": 4,
        CEILING: 4,
    }
    means = summarize(results)
    assert list(means.index) == ["unchanged control", "gene mean shift", CEILING]
    assert means.loc["unchanged control", "edist"] == 1
    assert means.loc[CEILING, "edist"] < means.loc["gene mean shift", "edist"] < 1


def test_gene_mean_shift_by_hand(adata):
    from scvi_neuronedit.benchmark import Task, leave_one_group_out

    split = leave_one_group_out(adata, **ARGUMENTS)[0]
    prediction = gene_mean_shift(Task(adata, split, **ARGUMENTS))["gene mean shift"]
    train = adata[split.train]
    shifts, shares = [], []
    for label in ["type_2", "type_3", "type_4"]:
        cells = train[train.obs["cell_type"] == label]
        source, target = (cells[cells.obs["condition"] == c].X.toarray() for c in ("ctrl", "stim"))
        shifts.append(target.mean(axis=0) - source.mean(axis=0))
        shares.append(min(len(source), len(target)))
    expected = adata.X[split.control].toarray() + np.average(shifts, axis=0, weights=shares)
    np.testing.assert_allclose(prediction, expected.clip(0), atol=1e-4)


def test_neuron_edit_never_sees_the_held_out_cells(adata, monkeypatch):
    seen, train = [], NeuronEdit.train

    def watched(self, **kwargs):
        seen.append(self.adata.obs.copy())
        train(self, max_epochs=1, accelerator="cpu", enable_progress_bar=False, **kwargs)

    monkeypatch.setattr(NeuronEdit, "train", watched)
    method = NeuronEditMethod({"a": {}, "b": {"method": "mean"}}, model={"hidden": (8,)}, show_reconstruction=True)
    results = run_leave_one_out(adata, [method], **ARGUMENTS)
    assert set(results["method"]) == {"a", "b", "truth, encoded and decoded", CEILING}
    for group, obs in zip(sorted(set(adata.obs["cell_type"])), seen, strict=True):
        assert not ((obs["cell_type"] == group) & (obs["condition"] == "stim")).any()


def test_report_and_json(results, tmp_path, capsys):
    print_report(results)
    assert "mean over 4 groups left out in turn" in capsys.readouterr().out
    write_json(results, tmp_path / "r.json")
    records = json.loads((tmp_path / "r.json").read_text())
    assert len(records) == len(results)
    assert records[0]["method"] == "unchanged control"
    assert records[0]["pearson_delta"] is None
