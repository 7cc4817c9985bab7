import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scvi.external import CYTOVI, cytovi

from scvi_neuronedit.data import arcsinh, read_fcs, select_markers, write_fcs

CHANNELS = ["FSC-A", "FITC-A", "PE-A", "Time"]
MARKERS = ["", "CD3", "CD4", ""]


@pytest.fixture
def values(rng):
    return rng.gamma(2, 50, size=(30, 4)).astype(np.float32)


@pytest.fixture
def folder(make_fcs, values):
    """Two samples of one panel, the second with its channels in another order."""
    make_fcs("in/b.fcs", values, CHANNELS, MARKERS, CYT="Aria", P2V="450")
    order = [3, 1, 0, 2]
    path = make_fcs("in/a.fcs", values[:20, order] + 1, [CHANNELS[i] for i in order], [MARKERS[i] for i in order])
    (path.parent / ".hidden.fcs").write_bytes(b"")
    (path.parent / "notes.txt").write_text("not read")
    return path.parent


def test_a_folder_is_read_into_one_object(folder, values):
    adata = read_fcs(folder)
    assert adata.obs["sample"].value_counts().to_dict() == {"b": 30, "a": 20}
    assert list(adata.obs_names[[0, 19, 20]]) == ["a-0", "a-19", "b-0"]
    assert set(adata.var_names) == {"FSC-A", "CD3", "CD4", "Time"}
    adata = adata[:, ["FSC-A", "CD3", "CD4", "Time"]]
    np.testing.assert_array_equal(adata.X, np.concatenate([values[:20] + 1, values]))
    np.testing.assert_array_equal(adata.layers["raw"], adata.X)
    assert adata.X.dtype == np.float32
    assert list(adata.var["channel"]) == CHANNELS
    assert list(adata.var["marker"]) == MARKERS
    assert list(adata.var["kind"]) == ["scatter", "marker", "marker", "time"]
    assert "_nan_mask" not in adata.layers


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<u2", ">u2", "<u4"])
def test_every_way_of_storing_numbers(make_fcs, dtype):
    values = np.arange(12).reshape(6, 2) * 7
    adata = read_fcs(make_fcs("x.fcs", values, ["A", "B"], dtype=dtype))
    np.testing.assert_array_equal(adata.X, values)


def test_logarithmic_amplification_gain_and_time_steps_are_undone(make_fcs, tmp_path):
    stored = np.array([[0, 100, 10], [512, 200, 20]])
    path = make_fcs("x.fcs", stored, ["FL1", "FL2", "Time"], dtype="<u2", P1E="4,1", P2G="2.0", TIMESTEP="0.1")
    adata = read_fcs(path)
    np.testing.assert_allclose(adata.X, [[1, 50, 1], [100, 100, 2]], rtol=1e-6)
    (written,) = write_fcs(adata, tmp_path / "y.fcs", "raw")
    again = read_fcs(written)
    np.testing.assert_array_equal(again.X, adata.X)
    ranges = {name: channel["r"] for name, channel in json.loads(again.uns["fcs"]["y"])["channels"].items()}
    assert ranges == {"FL1": "10000", "FL2": "512", "Time": "1024"}


def test_compensation(make_fcs, tmp_path, values):
    spillover = np.array([[1, 0.2], [0.1, 1]])
    observed = values.copy()
    observed[:, [2, 1]] = values[:, [2, 1]] @ spillover
    path = make_fcs("x.fcs", observed, CHANNELS, MARKERS, SPILLOVER="2,PE-A,FITC-A,1,0.2,0.1,1")
    with pytest.warns(UserWarning, match=r"spillover matrix of 'x.fcs' was not applied"):
        as_measured = read_fcs(path)
    np.testing.assert_array_equal(as_measured.X, observed)
    assert "spillover" in as_measured.uns["fcs"]["x"]
    compensated = read_fcs(path, compensate=True)
    np.testing.assert_allclose(compensated.X, values, rtol=1e-4, atol=1e-4)
    (written,) = write_fcs(compensated, tmp_path / "y.fcs", "raw")  # would be compensated twice with the matrix
    np.testing.assert_array_equal(read_fcs(written).X, compensated.X)


@pytest.mark.parametrize(
    ("spillover", "message"),
    [
        (None, "holds no spillover matrix"),
        ("2,PE-A,FITC-A,1,0.2,0.1", "is malformed"),
        ("2,PE-A,APC-A,1,0.2,0.1,1", "names channels it lacks .'APC-A'."),
        ("2,PE-A,FITC-A,1,1,1,1", "Singular matrix"),
        ("2,PE-A,FITC-A,1,x,1,1", "could not convert"),
    ],
)
def test_bad_spillover(make_fcs, values, spillover, message):
    keywords = {} if spillover is None else {"SPILLOVER": spillover}
    path = make_fcs("x.fcs", values, CHANNELS, **keywords)
    with pytest.raises(ValueError, match=rf"x.fcs cannot be read: .*{message}"):
        read_fcs(path, compensate=True)


def test_names(make_fcs, values):
    adata = read_fcs(
        make_fcs("x.fcs", values, ["Ir191Di", "Pr141Di", "Nd142Di", "Nd143Di"], ["DNA1", "CD3", "CD3", ""])
    )
    assert list(adata.var_names) == ["DNA1", "CD3_Pr141Di", "CD3_Nd142Di", "Nd143Di"]
    assert list(adata.var["kind"]) == ["other", "marker", "marker", "other"]
    # files that name no markers, or only repeat the channels, hold markers by the name of the channel
    for markers in (None, ["FSC-A", "CD3", "beadDist", "Event_length"]):
        adata = read_fcs(make_fcs("x.fcs", values, ["FSC-A", "CD3", "beadDist", "Event_length"], markers))
        assert list(adata.var["kind"]) == ["scatter", "marker", "other", "other"]


def test_samples_and_their_columns(folder, make_fcs, values):
    other = make_fcs("second/a.fcs", values, CHANNELS, MARKERS)
    with pytest.raises(ValueError, match="samples of the same name; pass a mapping"):
        read_fcs([folder / "a.fcs", other])
    sheet = pd.DataFrame({"batch": ["1", "2"]}, index=["first", "second"])
    adata = read_fcs({"first": folder / "a.fcs", "second": str(other)}, samples=sheet)
    assert adata.obs.groupby("sample", observed=True)["batch"].unique().str[0].to_dict() == {
        "first": "1",
        "second": "2",
    }
    with pytest.raises(ValueError, match="samples has no row for 'third'"):
        read_fcs({"third": other}, samples=sheet)
    with pytest.raises(ValueError, match="one row for each sample"):
        read_fcs({"first": other}, samples=pd.concat([sheet, sheet]))


def test_different_panels(folder, make_fcs, values):
    make_fcs("in/c.fcs", values, ["FSC-A", "FITC-A", "APC-A", "Time"], ["", "CD3", "CD19", ""])
    with pytest.raises(
        ValueError, match=r"c.fcs and .*a.fcs have different panels: only the former has 'CD19'; .*'CD4'"
    ):
        read_fcs(folder)
    assert set(read_fcs(folder, join="inner").var_names) == {"FSC-A", "CD3", "Time"}
    adata = read_fcs(folder, join="outer")
    assert set(adata.var_names) == {"FSC-A", "CD3", "CD4", "Time", "CD19"}
    lacks = (adata.obs["sample"] == "c").to_numpy()
    np.testing.assert_array_equal(
        adata.layers["_nan_mask"][:, adata.var_names == "CD4"].ravel(), (~lacks).astype(float)
    )
    np.testing.assert_array_equal(np.isnan(adata[:, "CD19"].X.ravel()), ~lacks)
    with pytest.raises(ValueError, match="join 'left' is not in the joins"):
        read_fcs(folder, join="left")
    make_fcs("in/c.fcs", values, ["FSC-A", "APC-A", "PE-A", "Time"], MARKERS)
    with pytest.raises(ValueError, match=r"'CD3' are on different channels"):
        read_fcs(folder)
    with pytest.raises(ValueError, match="share no marker"):
        read_fcs([folder / "a.fcs", make_fcs("z.fcs", values[:, :1], ["CD8"])], join="inner")


def test_each_file_gets_back_its_own_channels(folder, make_fcs, tmp_path, values):
    make_fcs("in/c.fcs", values, ["FSC-A", "Pr141Di", "APC-A", "Time"], ["", "CD3", "CD19", ""])
    adata = read_fcs(folder, join="outer")
    arcsinh(adata)
    written = write_fcs(adata, tmp_path / "out", "transformed")
    assert [path.name for path in written] == ["a.fcs", "b.fcs", "c.fcs"]
    for name in "abc":
        before, after = read_fcs(folder / f"{name}.fcs"), read_fcs(tmp_path / "out" / f"{name}.fcs")
        pd.testing.assert_frame_equal(before.var, after.var.loc[before.var_names])
        np.testing.assert_array_equal(after[:, before.var_names].X, before.X)
        assert json.loads(after.uns["fcs"][name])["keywords"] == json.loads(before.uns["fcs"][name])["keywords"]
    channels = json.loads(read_fcs(tmp_path / "out" / "b.fcs").uns["fcs"]["b"])["channels"]
    assert channels["CD3"] == {"n": "FITC-A", "s": "CD3", "v": "450", "r": "1024"}


def test_a_corrected_layer_is_written_on_the_raw_scale(folder, tmp_path):
    adata = read_fcs(folder)
    arcsinh(adata, {"CD3": 5, "CD4": 150})
    corrected = adata.layers["transformed"].copy()
    changed = (adata.obs["sample"] == "a").to_numpy()
    corrected[np.ix_(changed, adata.var_names == "CD4")] += 0.5
    adata.layers["corrected"] = corrected
    adata.write_h5ad(tmp_path / "x.h5ad")  # and through a file
    write_fcs(ad.read_h5ad(tmp_path / "x.h5ad"), tmp_path / "out", "corrected")
    again = read_fcs(tmp_path / "out")[:, adata.var_names]
    expected = adata.X.copy()
    cd4 = adata.var_names.get_loc("CD4")
    expected[changed, cd4] = 150 * np.sinh(np.arcsinh(expected[changed, cd4] / 150) + 0.5)
    np.testing.assert_allclose(again.X[changed], expected[changed], rtol=1e-5)
    np.testing.assert_array_equal(again.X[~changed], expected[~changed])
    np.testing.assert_array_equal(again.obs["sample"].to_numpy(), adata.obs["sample"].to_numpy())


def test_cells_that_never_were_in_a_file(tmp_path, rng):
    adata = ad.AnnData(rng.random((5, 2)).astype(np.float32))
    adata.var_names, adata.obs["sample"] = ["CD3/CD19", "/x"], "s"
    adata.uns["fcs"] = {"s": json.dumps({"keywords": {"op": "/home/", "a/b": "http://x", "empty": ""}, "channels": {}})}
    (path,) = write_fcs(adata, tmp_path, None)
    again = read_fcs(path)
    np.testing.assert_array_equal(again.X, adata.X)
    assert list(again.var_names) == ["CD3/CD19", "/x"]
    assert json.loads(again.uns["fcs"]["s"])["keywords"] == {"op": " /home/ ", "a_b": "http://x"}


def test_nothing_is_written_unless_everything_can_be(folder, tmp_path):
    adata, out = read_fcs(folder), tmp_path / "out"
    with pytest.raises(KeyError, match="no column 'cofactor'"):
        write_fcs(adata, out, "raw", scale="arcsinh")
    with pytest.raises(KeyError, match="sample_key 'Sample' is not in adata.obs"):
        write_fcs(adata, out, "raw", sample_key="Sample")
    with pytest.raises(ValueError, match="scale 'log' is not in the scales"):
        write_fcs(adata, out, "raw", scale="log")
    with pytest.raises(ValueError, match="is one file, but there are 2 samples"):
        write_fcs(adata, tmp_path / "out.fcs", "raw")
    adata.obs["path"] = "a/b"
    with pytest.raises(ValueError, match="'a/b' cannot be names of files"):
        write_fcs(adata, out, "raw", sample_key="path")
    adata.layers["bad"] = adata.X.copy()
    adata.layers["bad"][-1, list(adata.var_names).index("CD4")] = np.inf
    with pytest.raises(ValueError, match=r"'bad'. holds values of sample 'b' that are not finite, in 'CD4'"):
        write_fcs(adata, out, "bad", scale="raw")
    assert not out.exists()
    write_fcs(adata, out, "raw")
    with pytest.raises(ValueError, match=r"a.fcs', .*b.fcs' exist"):
        write_fcs(adata, out, "raw")
    write_fcs(adata, out, "raw", overwrite=True)


@pytest.mark.filterwarnings("ignore:unsupported byte order")
def test_unreadable_files(folder, make_fcs, values, tmp_path):
    whole = (folder / "b.fcs").read_bytes()
    bad = tmp_path / "bad.fcs"
    for content, cause in [
        (b"", "it is empty"),
        (b"sample,CD3\n1,2\n", r"it is not an FCS file, for it begins with b'sample'"),
        (b"FCS3.1", "bad.fcs cannot be read"),
        (whole[:40], "bad.fcs cannot be read"),
        (whole[:500], "it is truncated"),
        (whole[:-1], "it is truncated"),
        (whole[:-200], "it is truncated"),
        (whole.replace(b"$TOT|30|", b"$TOT|29|"), "it holds 120 values, but announces 29 events of 4 channels"),
        (whole.replace(b"$MODE|L|", b"$MODE|C|"), "histograms instead of events"),
        (whole.replace(b"1,2,3,4", b"3,4,1,2"), "byte order '3,4,1,2' is unknown"),
        (whole.replace(b"$TOT|30|", b"$TXT|30|"), "it lacks the keyword 'tot'"),
        (whole.replace(b"$NEXTDATA|0|", b"$NEXTDATA|9|"), "multiple data sets"),
        (whole.replace(b"$P3N|PE-A|", b"$P3N|Time|"), "several of its channels have the name 'Time'"),
    ]:
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=cause) as error:
            read_fcs([folder / "a.fcs", bad])
        assert str(bad) in str(error.value)
    with pytest.raises(ValueError, match="it holds no events"):
        read_fcs(make_fcs("none.fcs", values[:0], CHANNELS))
    with pytest.raises(FileNotFoundError, match=r"missing.fcs"):
        read_fcs(folder / "missing.fcs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no file ending in .fcs"):
        read_fcs(tmp_path / "empty")
    with pytest.raises(ValueError, match="names no file"):
        read_fcs([])


@pytest.mark.parametrize("seed", range(3))
def test_a_file_cut_anywhere_is_refused(folder, tmp_path, seed):
    whole, cut = (folder / "b.fcs").read_bytes(), tmp_path / "cut.fcs"
    for length in np.random.default_rng(seed).integers(1, len(whole), 60):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut.fcs cannot be read"):
            read_fcs(cut)


def test_markers_are_selected(folder):
    adata = read_fcs(folder)
    assert list(select_markers(adata).var_names) == [name for name in adata.var_names if name in ("CD3", "CD4")]
    assert list(select_markers(adata, ["PE-A", "FSC-A"]).var_names) == ["CD4", "FSC-A"]
    assert list(select_markers(adata, "CD3").var_names) == ["CD3"]
    with pytest.raises(KeyError, match=r"'CD33' is not in adata.var_names .*did you mean 'CD3'"):
        select_markers(adata, ["CD33"])
    del adata.var["kind"]
    with pytest.raises(KeyError, match="no column 'kind'"):
        select_markers(adata)


@pytest.mark.filterwarnings("ignore")
def test_the_object_goes_through_cytovi(make_fcs, rng):
    channels, markers = [f"c{i}" for i in range(6)], [f"CD{i}" for i in range(6)]
    for name in "ab":
        make_fcs(f"cyto/{name}.fcs", rng.gamma(2, 50, size=(200, 6)), channels, markers)
    path = make_fcs("cyto/c.fcs", rng.gamma(2, 50, size=(200, 5)), channels[:5], markers[:5])
    adata = read_fcs(path.parent, join="outer")
    arcsinh(adata)
    cytovi.scale(adata, batch_key="sample")
    mask = adata.layers["_nan_mask"].copy()
    cytovi.register_nan_layer(adata)
    np.testing.assert_array_equal(mask, adata.layers["_nan_mask"])
    CYTOVI.setup_anndata(adata, layer="scaled", batch_key="sample")
    model = CYTOVI(adata)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert model.get_latent_representation().shape[0] == adata.n_obs


def test_the_published_file(data_dir, tmp_path):
    """Compare with the same cells of the CytoNorm example data, read by others."""
    path = data_dir / "Gates_PTLG021_Unstim_Control_1.fcs"
    if not path.exists():
        pytest.skip(f"no real data: {path.name} is missing")
    adata = read_fcs(path)
    assert adata.shape == (1000, 55)
    expected = ad.read_h5ad(data_dir / "cytof_controls.h5ad")
    expected = expected[(expected.obs["batch"] == "PTLG021") & (expected.obs["control"] == "control_1")]
    markers = select_markers(adata)
    assert set(markers.var_names) == set(expected.var_names)
    np.testing.assert_array_equal(markers[:, expected.var_names].X, expected.X)
    assert list(markers[:, expected.var_names].var["channel"]) == list(expected.var["channel"])
    arcsinh(adata)
    (written,) = write_fcs(adata, tmp_path, "transformed")
    again = read_fcs(written)
    np.testing.assert_array_equal(again.X, adata.X)
    assert again.uns["fcs"] == adata.uns["fcs"]
