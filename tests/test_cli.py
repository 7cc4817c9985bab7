import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from typer.testing import CliRunner

from scvi_neuronedit.cli import app
from scvi_neuronedit.data import read_fcs
from scvi_neuronedit.metrics import feature_emd

OPTIONS = ["--condition-key", "condition", "--source", "ctrl", "--target", "stim", "--accelerator", "cpu"]


@pytest.fixture
def path(adata, tmp_path):
    """Cells on disk, without stimulated cells of type_4."""
    held_out = (adata.obs["cell_type"] == "type_4") & (adata.obs["condition"] == "stim")
    adata[~held_out].copy().write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def predict(path, *arguments):
    return call("predict", path, path.with_name("out.h5ad"), *OPTIONS, "--max-epochs", 2, *arguments)


def test_predict_writes_the_input_and_a_layer_more(path):
    result = predict(path, "--query", "cell_type=type_4", "--query", "cell_type=type_1", "--labels-key", "cell_type")
    assert result.exit_code == 0, result.output
    before, after = ad.read_h5ad(path), ad.read_h5ad(path.with_name("out.h5ad"))
    assert set(after.layers) == {*before.layers, "predicted"}
    assert list(after.obs) == [*before.obs, "predicted_support"]
    assert set(after.uns) == {*before.uns, "neuronedit"}
    assert (after.X != before.X).nnz == 0
    query = (before.obs["cell_type"].isin(["type_1", "type_4"]) & (before.obs["condition"] == "ctrl")).to_numpy()
    x, layer = before.X.toarray(), after.layers["predicted"]
    np.testing.assert_array_equal(layer[~query], x[~query])
    assert not np.allclose(layer[query], x[query])
    assert f"{query.sum()} cells predicted (ctrl -> stim" in result.stdout
    assert "Warning: left out of learning, for lack of source or target cells: cell_type 'type_4'." in result.stderr
    assert [file.name for file in path.parent.iterdir() if file.name.endswith(".tmp")] == []


def test_default_query_and_seed(path):
    arguments = ["--labels-key", "cell_type", "--layer", "counts", "--likelihood", "nb", "--method", "mean"]
    layers = []
    for seed in (0, 0, 1):
        assert predict(path, *arguments, "--seed", seed, "--layer-added", "new", "--overwrite").exit_code == 0
        layers.append(ad.read_h5ad(path.with_name("out.h5ad")).layers["new"])
    assert sparse.issparse(layers[0])
    assert (layers[0] != layers[1]).nnz == 0
    assert (layers[0] != layers[2]).nnz > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "control"], "source 'control' is not in adata.obs['condition'] ('ctrl', 'stim'); did you mean"),
        (["--target", "stim2"], "did you mean 'stim'?"),
        (["--condition-key", "cond"], "condition_key 'cond' is not in adata.obs"),
        (["--query", "cell_type:B"], "--query 'cell_type:B' must have the form COLUMN=VALUE"),
        (["--query", "cell_type=B"], "query 'B' is not in adata.obs['cell_type']"),
        (["--layer", "count"], "did you mean 'counts'?"),
        (["--layer-added", "counts"], "layer_added='counts' is already in adata.layers"),
        (["--source", "stim"], "source and target share"),
    ],
)
def test_bad_arguments_give_one_line_and_no_file(path, arguments, message):
    result = predict(path, *arguments)
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.output
    assert [file.name for file in path.parent.iterdir()] == ["in.h5ad"]


def test_bad_files(path, tmp_path):
    (tmp_path / "text.h5ad").write_text("no h5ad")
    for bad, message in [
        (tmp_path / "none.h5ad", "does not exist"),
        (tmp_path / "text.h5ad", "cannot be read as an h5"),
    ]:
        for result in (predict(bad), call("info", bad)):
            assert result.exit_code == 1
            assert message in result.stderr
    existing = tmp_path / "out.h5ad"
    existing.write_text("keep me")
    assert "already exists; choose another name or pass --overwrite" in predict(path).stderr
    assert existing.read_text() == "keep me"
    result = call("predict", path, tmp_path / "nowhere" / "out.h5ad", *OPTIONS)
    assert "the folder of" in result.stderr


def test_a_crash_leaves_no_half_file(path, monkeypatch):
    def crash(self, file):
        with open(file, "w") as half:
            half.write("half")
        msg = "disk full"
        raise OSError(msg)

    monkeypatch.setattr(ad.AnnData, "write_h5ad", crash)
    result = predict(path)
    assert result.exit_code == 1
    assert "Error: disk full" in result.stderr
    assert [file.name for file in path.parent.iterdir()] == ["in.h5ad"]


def test_what_was_there_stays_and_the_file_can_be_read_by_others(path):
    adata = ad.read_h5ad(path)
    adata.obs["_scvi_batch"], adata.uns["_scvi_uuid"] = 7, "mine"
    adata.write_h5ad(path)
    assert predict(path, "--query", "cell_type=type_4", "--method", "mean").exit_code == 0
    after = ad.read_h5ad(path.with_name("out.h5ad"))
    assert (after.obs["_scvi_batch"] == 7).all()
    assert [key for key in after.uns if key.startswith("_scvi")] == ["_scvi_uuid"]
    assert path.with_name("out.h5ad").stat().st_mode == path.stat().st_mode


def test_conditions_and_queries_may_be_numbers(path):
    adata = ad.read_h5ad(path)
    adata.obs["dose"] = (adata.obs["condition"] == "stim").astype(int)
    adata.obs["responds"] = adata.obs["cell_type"] != "type_4"
    adata.write_h5ad(path)
    numbers = ["--condition-key", "dose", "--source", "0", "--target", "1", "--query", "responds=False"]
    result = call("predict", path, path.with_name("out.h5ad"), *numbers, "--max-epochs", 1, "--method", "mean")
    assert result.exit_code == 0, result.output
    n_query = (~adata.obs["responds"] & (adata.obs["dose"] == 0)).sum()
    assert f"{n_query} cells predicted" in result.stdout


def test_info_says_what_cannot_be_used(path):
    adata = ad.read_h5ad(path)
    adata.layers["bad"] = np.full(adata.shape, np.nan)
    del adata.X
    adata.write_h5ad(path)
    result = call("info", path)
    assert result.exit_code == 0, result.output
    assert "layer 'bad': cannot be used (adata.layers['bad'] holds NaN or infinite values" in result.stdout
    assert "layer 'counts': sparse, counts" in result.stdout


def test_an_unknown_accelerator_is_one_line(path):
    result = predict(path, "--accelerator", "nonsense")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert [line for line in result.stderr.splitlines() if line.startswith("Error: ")]


def test_info(path):
    predict(path, "--query", "cell_type=type_4")
    result = call("info", path.with_name("out.h5ad"))
    assert result.exit_code == 0, result.output
    assert "cells x 150 features" in result.stdout
    assert "X: sparse, non-negative" in result.stdout
    assert "layer 'counts': sparse, counts" in result.stdout
    assert "obs 'condition': ctrl (350)" in result.stdout
    assert "'predicted' was written by scvi-neuronedit" in result.stdout
    assert "query condition=ctrl & cell_type=type_4" in result.stdout


def test_help_says_what_there_is():
    result = call("--help")
    assert result.exit_code == 0
    assert "predict" in result.stdout
    assert "info" in result.stdout


# correct -------------------------------------------------------------------------------------------------------------


def intensities(rng, shift, n_cells=150):
    """Time and three markers of two kinds of cells; a batch shifts the arcsinh of the markers."""
    kind = rng.integers(0, 2, n_cells)[:, None]
    x = rng.normal([1, 3, 2], 0.2, size=(n_cells, 3)) + kind * [2, -1, 1] + shift
    return np.column_stack([np.arange(n_cells), 5 * np.sinh(x)])


@pytest.fixture
def fcs_folder(make_fcs, tmp_path, rng):
    """Two batches with a control and a patient each, and the table of the files."""
    folder = tmp_path / "fcs"
    folder.mkdir()
    rows = []
    for batch, shift in {"b1": 0.0, "b2": 0.7}.items():
        for sample in ("control", "patient"):
            name = f"{batch}_{sample}"
            path = make_fcs(f"{name}.fcs", intensities(rng, shift), ["Time", "A", "B", "C"], ["", "CD3", "CD4", "CD8"])
            path.rename(folder / path.name)
            rows.append({"file": f"{name}.fcs", "batch": batch, "control": "c1" if sample == "control" else None})
    pd.DataFrame(rows).to_csv(tmp_path / "sheet.csv", index=False)
    return folder


CORRECT = ["--batch-key", "batch", "--control-key", "control", "--reference", "b1", "--accelerator", "cpu"]


def test_correct_fcs_files(fcs_folder, tmp_path):
    out, sheet = tmp_path / "out", tmp_path / "sheet.csv"
    result = call("correct", fcs_folder, out, *CORRECT, "--samples", sheet, "--max-epochs", 20)
    assert result.exit_code == 0, result.output
    assert "b2 -> b1 (learnt from c1): mean EMD of controls held out" in result.stdout
    before, after = read_fcs(fcs_folder), read_fcs(out)
    assert list(after.var_names) == list(before.var_names)
    x, corrected = (np.arcsinh(a.X / 5) for a in (before, after))
    is_b1 = after.obs["sample"].isin(["b1_control", "b1_patient"]).to_numpy()
    np.testing.assert_array_equal(after.X[is_b1], before.X[is_b1])
    np.testing.assert_array_equal(after[:, "Time"].X, before[:, "Time"].X)
    patients = [(after.obs["sample"] == name).to_numpy() for name in ("b2_patient", "b1_patient")]
    was, now = (feature_emd(values[patients[0], 1:], x[patients[1], 1:]).mean() for values in (x, corrected))
    assert was > 0.6
    assert now < 0.3


def test_every_marker_may_have_a_cofactor_of_its_own(fcs_folder, tmp_path):
    table = tmp_path / "cofactors.csv"
    table.write_text("marker,cofactor\nCD3,5\nCD4,150\nCD8,5\n")
    written = {}
    for cofactor in ("5", str(table)):
        out = tmp_path / f"out_{len(written)}"
        arguments = ["--samples", tmp_path / "sheet.csv", "--max-epochs", 2, "--cofactor", cofactor]
        assert call("correct", fcs_folder, out, *CORRECT, *arguments).exit_code == 0
        written[cofactor] = read_fcs(out)[:, "CD4"].X
    one, own = written.values()
    assert np.isfinite(own).all()
    assert np.abs(one - own).max() > 0.01


def test_correct_h5ad(fcs_folder, tmp_path):
    adata = read_fcs(fcs_folder)[:, ["CD3", "CD4", "CD8"]].copy()
    adata.obs["batch"] = adata.obs["sample"].astype(str).str[:2]
    adata.obs["control"] = adata.obs["sample"].astype(str).str[3:]
    adata.layers["transformed"] = np.arcsinh(adata.X / 5)
    adata.write_h5ad(tmp_path / "in.h5ad")
    arguments = [*CORRECT, "--control", "control", "--layer", "transformed", "--max-epochs", 5]
    result = call("correct", tmp_path / "in.h5ad", tmp_path / "out.h5ad", *arguments)
    assert result.exit_code == 0, result.output
    after = ad.read_h5ad(tmp_path / "out.h5ad")
    assert "corrected" in after.layers
    assert not [column for column in after.obs if column.startswith("_scvi")]
    assert after.uns["neuronedit"]["corrected"]["batches"].loc["b2", "controls"] == "control"
    assert "batches to b1, by controls control=control" in call("info", tmp_path / "out.h5ad").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--samples must name the table"),
        (["--samples", "sheet.csv", "--reference", "b7"], "reference 'b7' is not in"),
        (["--samples", "sheet.csv", "--control-key", "ctrl"], "did you mean 'control'?"),
        (["--samples", "sheet.csv", "--control", "c9"], "controls 'c9' is not in"),
        (["--samples", "sheet.csv", "--marker", "CD33"], "CD33"),
        (["--samples", "sheet.csv", "--cofactor", "five"], "--cofactor five: it must be a number, or a table"),
        (["--samples", "sheet.csv", "--cofactor", "sheet.csv"], "must have two columns"),
        (["--samples", "sheet.csv", "--cofactor", "-1"], "every cofactor must be a positive number"),
        (["--samples", "sheet.csv", "--layer", "raw"], "--layer and --likelihood are for h5ad files"),
        (["--samples", "sheet.csv", "--control-key", "batch"], "no value of adata.obs['batch']"),
    ],
)
def test_bad_corrections_write_nothing(fcs_folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = call("correct", fcs_folder, "out", *CORRECT, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_named(fcs_folder, tmp_path):
    bad = fcs_folder / "b2_patient.fcs"
    bad.write_bytes(bad.read_bytes()[:400])
    result = call("correct", fcs_folder, tmp_path / "out", *CORRECT, "--samples", tmp_path / "sheet.csv")
    assert result.exit_code == 1
    assert "b2_patient.fcs" in result.stderr
