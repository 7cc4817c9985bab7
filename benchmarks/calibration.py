"""How often the true change of a left-out cell type lies within its predicted interval, and whether support ranks errors.

    python benchmarks/calibration.py [--data kang_ifnb.h5ad] [--seed 0] [--json results.json]

For each cell type left out in turn, on simulated cells and, where the file is there, on those of Kang et al. (2018):
share of the genes whose true change lies within the 90 % interval of ``get_edit_effect`` (all genes; the 100 most
differential ones), median width of the intervals, mean support of the type's cells and error of the prediction. Last:
Spearman correlation of support and error over types, and over cells.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from kang_leave_one_out import DEFAULT_DATA, load
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.benchmark import leave_one_group_out, write_json
from scvi_neuronedit.datasets import simulate_conditions
from scvi_neuronedit.metrics import energy_distance, rank_differential_features

KEYS = {"condition_key": "condition", "labels_key": "cell_type"}


def simulated(seed: int) -> sc.AnnData:
    adata = simulate_conditions(n_cells=2500, n_genes=600, random_state=seed)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def evaluate(name: str, adata: sc.AnnData) -> pd.DataFrame:
    x = adata.X.toarray()
    pca = PCA(30, random_state=0).fit(x)
    rows = []
    for split in leave_one_group_out(adata, source="ctrl", target="stim", **KEYS):
        train = adata[split.train].copy()
        NeuronEdit.setup_anndata(train, **KEYS)
        model = NeuronEdit(train)
        model.train(enable_progress_bar=False, accelerator="cpu")
        edit = model.learn_edit("ctrl", "stim")
        query = {"cell_type": split.group, "condition": "ctrl"}
        effect = model.get_edit_effect(edit, query)
        support = model.get_edit_support(edit, query)["support"].to_numpy()
        control, truth = x[split.control], x[split.truth]
        predicted = pca.transform(model.apply_edit(edit, query=query))
        change = truth.mean(axis=0) - control.mean(axis=0)
        inside = ((effect["lower"] <= change) & (change <= effect["upper"])).to_numpy()
        top = rank_differential_features(control, truth)[:100]
        distance = np.linalg.norm(predicted[:, None] - pca.transform(truth)[None], axis=2).min(axis=1)
        rows.append(
            {
                "data": name,
                "group": split.group,
                "inside": inside.mean(),
                "inside_deg": inside[top].mean(),
                "median_width": (effect["upper"] - effect["lower"]).median(),
                "median_change_deg": np.median(np.abs(change[top])),
                "support": support.mean(),
                "edist": energy_distance(predicted, pca.transform(truth)),
                "spearman_support_error_of_cells": spearmanr(support, distance).statistic,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    scvi.settings.seed = arguments.seed
    results = [evaluate("simulated", simulated(arguments.seed))]
    if arguments.data.exists():
        results.append(evaluate("Kang", load(arguments.data)))
    for table in results:
        print(table.round(3).to_string(index=False))
        means = table[["inside", "inside_deg", "spearman_support_error_of_cells"]].mean()
        over_groups = spearmanr(table["support"], table["edist"]).statistic
        print(f"mean: {means.round(3).to_dict()}; Spearman of support and edist over types {over_groups:.2f}\n")
    if arguments.json:
        write_json(pd.concat(results), arguments.json)


if __name__ == "__main__":
    main()
