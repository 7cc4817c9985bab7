"""Predict stimulated cells of a type that was never measured stimulated, on simulated counts whose truth is known.

    python benchmarks/demo.py [--figure predicted_change.png] [--seed 0] [--json results.json]

Prints predicted against true change beside the baselines, mean over all cell types left out in turn, and draws the
predicted against the true change of every gene for the type left out last.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import scanpy as sc
import scvi

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.benchmark import (
    NeuronEditMethod,
    gene_mean_shift,
    print_report,
    run_leave_one_out,
    unchanged,
    write_json,
)
from scvi_neuronedit.datasets import simulate_conditions
from scvi_neuronedit.pl import predicted_change

KEYS = {"condition_key": "condition", "labels_key": "cell_type"}
EDITS = {
    "latent mean shift, decoded": {"method": "mean", "keep_residual": False},
    "percentile, decoded (2018)": {"method": "percentile", "keep_residual": False},
    "NeuronEdit (defaults)": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "left out of learning", UserWarning)

    adata = simulate_conditions(n_cells=2500, n_genes=600, random_state=arguments.seed)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    print(f"{adata.n_obs:,} simulated cells, {adata.n_vars} genes, {adata.obs['cell_type'].nunique()} cell types")

    scvi.settings.seed = arguments.seed
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    methods = [unchanged, gene_mean_shift, NeuronEditMethod(EDITS, train=quiet)]
    results = run_leave_one_out(adata, methods, source="ctrl", target="stim", **KEYS)
    print_report(results)
    if arguments.json:
        write_json(results, arguments.json)
    if arguments.figure:
        cell_type = results["group"].iloc[-1]
        query, truth = ({"cell_type": cell_type, "condition": condition} for condition in ("ctrl", "stim"))
        is_truth = (adata.obs["cell_type"] == cell_type) & (adata.obs["condition"] == "stim")
        train = adata[~is_truth].copy()
        NeuronEdit.setup_anndata(train, **KEYS)
        model = NeuronEdit(train)
        model.train(**quiet)
        model.predict_condition("ctrl", "stim", query, adata)
        arguments.figure.parent.mkdir(parents=True, exist_ok=True)
        predicted_change(
            adata, "predicted", query, truth, title=f"{cell_type}, never seen stimulated", save=arguments.figure
        )
        print(f"\nfigure: {arguments.figure}")


if __name__ == "__main__":
    main()
