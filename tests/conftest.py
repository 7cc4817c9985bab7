"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import scanpy as sc
import scvi
import torch

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.datasets import simulate_conditions

mpl.use("agg")
torch.set_num_threads(1)
scvi.settings.progress_bar_style = "tqdm"

KEYS = {"condition_key": "condition", "labels_key": "cell_type"}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with real data, not part of the repository."""
    folder = Path(os.environ.get("NEURONEDIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set NEURONEDIT_DATA)")
    return folder


@pytest.fixture(autouse=True)
def _seed():
    scvi.settings.seed = 0


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def simulated_counts() -> sc.AnnData:
    return simulate_conditions(n_cells=700, n_genes=150, n_types=4, random_state=1)


@pytest.fixture(scope="session")
def simulated(simulated_counts) -> sc.AnnData:
    adata = simulated_counts.copy()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


@pytest.fixture
def counts(simulated_counts) -> sc.AnnData:
    """Counts of four cell types, with and without a stimulus."""
    return simulated_counts.copy()


@pytest.fixture
def adata(simulated) -> sc.AnnData:
    """The same, log-normalised, with the counts in a layer."""
    return simulated.copy()


def train(adata: sc.AnnData, max_epochs: int = 40, likelihood: str = "normal", **setup) -> NeuronEdit:
    """A small model, trained for a few seconds."""
    scvi.settings.seed = 0
    NeuronEdit.setup_anndata(adata, **{**KEYS, **setup})
    model = NeuronEdit(adata, n_latent=8, hidden=(32,), dropout_rate=0, likelihood=likelihood)
    model.train(max_epochs=max_epochs, batch_size=32, accelerator="cpu", enable_progress_bar=False)
    return model


@pytest.fixture(scope="session")
def model(simulated) -> NeuronEdit:
    """Trained on all cells but the stimulated ones of type_4. Its AnnData must not be written to."""
    held_out = (simulated.obs["cell_type"] == "type_4") & (simulated.obs["condition"] == "stim")
    return train(simulated[~held_out].copy())


@pytest.fixture(scope="session")
def count_model(simulated_counts) -> NeuronEdit:
    """Negative binomial, trained on all cells. Its AnnData must not be written to."""
    return train(simulated_counts.copy(), max_epochs=100, likelihood="nb")


@pytest.fixture
def make_fcs(tmp_path):
    """Write an FCS file: ``make_fcs(name, values, channels, markers=None, dtype="<f4", **keywords)``."""

    def make(name, values, channels, markers=None, dtype="<f4", **keywords):
        values = np.asarray(values, dtype=dtype)
        markers = markers or [""] * len(channels)
        text = {
            "$BEGINANALYSIS": 0,
            "$ENDANALYSIS": 0,
            "$BEGINSTEXT": 0,
            "$ENDSTEXT": 0,
            "$BYTEORD": "1,2,3,4" if dtype[0] == "<" else "4,3,2,1",
            "$DATATYPE": {"f4": "F", "f8": "D"}.get(dtype[1:], "I"),
            "$MODE": "L",
            "$NEXTDATA": 0,
            "$PAR": len(channels),
            "$TOT": len(values),
        }
        for i, (channel, marker) in enumerate(zip(channels, markers, strict=True), start=1):
            text |= {f"$P{i}N": channel, f"$P{i}B": 8 * int(dtype[2]), f"$P{i}E": "0,0", f"$P{i}R": 1024}
            text |= {f"$P{i}S": marker} if marker else {}
        text |= {f"${key}": value for key, value in keywords.items()}
        begin, end = 4096, 4096 + values.nbytes - 1
        text |= {"$BEGINDATA": begin, "$ENDDATA": end}
        segment = "|" + "".join(f"{key}|{value}|" for key, value in text.items())
        header = "FCS3.1    " + "".join(f"{n:>8}" for n in (58, 58 + len(segment) - 1, begin, end, 0, 0))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((header + segment).encode().ljust(begin) + values.tobytes())
        return path

    return make
