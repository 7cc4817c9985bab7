"""Predict IFN-beta-stimulated PBMC of a cell type from its control cells, one cell type left out at a time.

    python benchmarks/kang_leave_one_out.py [--data kang_ifnb.h5ad] [--seed 0] [--json results.json]

The file holds counts in X and the columns condition (ctrl, stim) and cell_type in obs. Without --data it is looked
for in the folder named by NEURONEDIT_DATA.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import scanpy as sc
import scvi

from scvi_neuronedit.benchmark import (
    NeuronEditMethod,
    gene_mean_shift,
    print_report,
    run_leave_one_out,
    unchanged,
    write_json,
)

EDITS = {
    "latent mean shift, decoded": {"method": "mean", "keep_residual": False},
    "percentile, decoded (2018)": {"method": "percentile", "keep_residual": False},
    "percentile": {"method": "percentile"},
    "neighbor (2020)": {"method": "neighbor"},
    "gaussian": {"method": "gaussian"},
    "pairs": {"method": "pairs"},
    "group, code then output": {"method": "group", "layers": ("code", "output")},
    "auto (default)": {},
}

DEFAULT_DATA = Path(os.environ.get("NEURONEDIT_DATA", "../shared/data")) / "kang_ifnb.h5ad"


def load(path: Path) -> sc.AnnData:
    """2,000 variable genes, log1p CP10k."""
    adata = sc.read_h5ad(path)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000, batch_key="condition")
    return adata[:, adata.var["highly_variable"]].copy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.data.exists():
        parser.error(f"{arguments.data} does not exist; name the file with --data")

    warnings.filterwarnings("ignore", "left out of learning", UserWarning)
    scvi.settings.seed = arguments.seed
    methods = [
        unchanged,
        gene_mean_shift,
        NeuronEditMethod(EDITS, train={"enable_progress_bar": False}, show_reconstruction=True),
    ]
    keys = {"condition_key": "condition", "labels_key": "cell_type", "source": "ctrl", "target": "stim"}
    results = run_leave_one_out(load(arguments.data), methods, **keys)
    print_report(results)
    if arguments.json:
        write_json(results, arguments.json)


if __name__ == "__main__":
    main()
