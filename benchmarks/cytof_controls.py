"""Correct batches of mass cytometry from one control sample, test on another, beside other methods.

    python benchmarks/cytof_controls.py [--data cytof_controls.h5ad] [--seed 0] [--json results.json]

The file holds raw intensities in X, which are brought to arcsinh(x / 5), and the columns batch and control in obs.
Without --data it is looked for in the folder named by NEURONEDIT_DATA. Every ordered pair of batches and both roles of
the controls are run. harmonypy and cytonormpy are left out where they are not installed; cytonormpy 1.0.2 asks for flowio 1.3, but runs
with the newer one of this package if it is installed with --no-deps beside what else it needs (flowsom, minisom,
consensusclustering, kneed, pytometry, readfcs, flowutils, loguru).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import warnings
from pathlib import Path

import anndata as ad
import pandas as pd
import scvi

from scvi_neuronedit.benchmark import (
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
from scvi_neuronedit.data import arcsinh

CORRECTIONS = {
    "NeuronEdit, percentile of the code": {"method": "percentile", "guard": False},
    "NeuronEdit, percentile, then output": {"method": "percentile", "layers": ("code", "output"), "guard": False},
    "NeuronEdit, neighbor, then output": {"method": "neighbor", "layers": ("code", "output"), "guard": False},
    "NeuronEdit, auto": {"method": "auto", "guard": False},
    "NeuronEdit, default without guard": {"guard": False},
    "NeuronEdit, default": {},
}

DEFAULT_DATA = Path(os.environ.get("NEURONEDIT_DATA", "../shared/data")) / "cytof_controls.h5ad"


def load(path: Path) -> ad.AnnData:
    """Markers on the scale arcsinh(x / 5)."""
    adata = ad.read_h5ad(path)
    arcsinh(adata, 5, layer=None)
    adata.X = adata.layers.pop("transformed")
    return adata


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.data.exists():
        parser.error(f"{arguments.data} does not exist; name the file with --data")

    for package in ("scanpy", "harmonypy", "cytonormpy"):  # so that importing them is not timed
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    scvi.settings.verbosity = 40
    quiet = {"enable_progress_bar": False}
    methods = [
        NoCorrection(),
        MeanShift(),
        QuantileCorrection(),
        QuantileCorrection(n_clusters=10, random_state=arguments.seed),
        CytoNorm(random_state=arguments.seed),
        ComBat(),
        Harmony(random_state=arguments.seed),
        CytoVI(train=quiet),
        *(NeuronEditCorrection(name, correct, train=quiet) for name, correct in CORRECTIONS.items()),
    ]
    warnings.filterwarnings("ignore", module="(?!__main__).*")
    results = run_control_test(
        load(arguments.data), methods, batch_key="batch", control_key="control", random_state=arguments.seed
    )
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print("mean over tasks (of memory the maximum); change: of emd, from no correction")
        print(summarize_control_test(results).round(3).to_string())
    if arguments.json:
        write_json(results, arguments.json)


if __name__ == "__main__":
    main()
