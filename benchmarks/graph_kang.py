"""Structured neurons on stimulated PBMC: what the structure costs, what it finds, whether it helps the edit.

    python benchmarks/graph_kang.py [--data kang_ifnb.h5ad] [--seed 0] [--max-epochs 25] [--json results.json]

The file holds counts in X and the columns condition (ctrl, stim) and cell_type in obs. Without --data it is looked for in
the folder named by NEURONEDIT_DATA.

Structure: models are trained on four fifths of the cells. `loss` is the reconstruction loss of the others, `cost` its rise
over the model without a graph, `ami` the adjusted mutual information of cells by their most active module with their
cell types. The rival clusters the neurons of the model without a graph afterwards. Edit: IFN-beta predicted for one cell
type after the other, as in kang_leave_one_out.py; the networks of all graphs begin with the same weights.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from sklearn.metrics import adjusted_mutual_info_score

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.benchmark import NeuronEditMethod, run_leave_one_out, summarize, write_json
from scvi_neuronedit.metrics import morans_i
from scvi_neuronedit.nn import named_graph

DEFAULT_DATA = Path(os.environ.get("NEURONEDIT_DATA", "../shared/data")) / "kang_ifnb.h5ad"
MODELS = {
    "none": {},
    "grid": {"neuron_graph": "grid"},
    "cliques": {"neuron_graph": "cliques"},
    "learned": {"neuron_graph": "learned"},
    "grid, weight x 10": {"neuron_graph": "grid", "graph_weight": None},
}

EDITS = {
    "percentile": {"method": "percentile", "layers": "code"},
    "group": {"method": "group", "layers": "code"},
    "auto": {},
}


def load(path: Path, n_genes: int) -> sc.AnnData:
    """Variable genes, log1p CP10k."""
    adata = sc.read_h5ad(path)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=n_genes, batch_key="condition")
    return adata[:, adata.var["highly_variable"]].copy()


def structure(adata: sc.AnnData, max_epochs: int, seed: int) -> pd.DataFrame:
    """Cost and findings of each graph on the same held-out cells."""
    held_out = np.random.default_rng(seed).random(adata.n_obs) < 0.2
    train, test = adata[~held_out].copy(), adata[held_out].copy()
    x = test.X.toarray()
    rows = []
    for name, arguments in MODELS.items():
        scvi.settings.seed = seed
        NeuronEdit.setup_anndata(train, condition_key="condition", labels_key="cell_type")
        if name.endswith("x 10"):
            arguments = arguments | {"graph_weight": 0.3 * rows[0]["loss"]}
        model = NeuronEdit(train, **arguments)
        model.train(max_epochs=max_epochs, enable_progress_bar=False)
        decoded = model.get_normalized_expression(test, return_numpy=True)
        graph, z = model.get_neuron_graph(), model.get_activations(test)
        rows.append(
            {
                "method": name,
                "loss": 0.5 * float(((decoded - x) ** 2).sum(axis=1).mean()),
                "modules": graph.n_modules,
                "components": graph.n_components,
                "ami": ami(z, graph.modules, test.obs["cell_type"]),
                "ami_condition": ami(z, graph.modules, test.obs["condition"]),
                "morans_i": float(morans_i(z, named_graph("grid", z.shape[1])).mean()),
                "edge_correlation": edge_correlation(z, graph.adjacency),
            }
        )
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.insert(2, "cost", table["loss"] / table["loss"][0] - 1)
    return table


def ami(z: np.ndarray, modules: np.ndarray, labels: pd.Series) -> float:
    """Cells go to the module with the largest mean activation, in standard deviations."""
    z = (z - z.mean(axis=0)) / z.std(axis=0).clip(min=1e-12)
    activity = np.stack([z[:, modules == k].mean(axis=1) for k in range(modules.max() + 1)], axis=1)
    return float(adjusted_mutual_info_score(labels, activity.argmax(axis=1)))


def edge_correlation(z: np.ndarray, adjacency) -> float:
    """Mean correlation of joined neurons, less that of all pairs."""
    correlation = np.nan_to_num(np.corrcoef(z, rowvar=False))
    i, j = adjacency.nonzero()
    return float(correlation[i, j].mean() - correlation[~np.eye(len(correlation), dtype=bool)].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-epochs", type=int, help="the default of train() if not given")
    parser.add_argument("--n-genes", type=int, default=2000)
    parser.add_argument("--experiment", choices=("structure", "edit", "both"), default="both")
    parser.add_argument(
        "--graphs",
        nargs="+",
        choices=("none", "grid", "learned"),
        default=("none", "grid", "learned"),
        help="of the edit",
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.data.exists():
        parser.error(f"{arguments.data} does not exist; name the file with --data")
    warnings.filterwarnings("ignore", "left out of learning", UserWarning)
    adata = load(arguments.data, arguments.n_genes)
    tables = []
    if arguments.experiment != "edit":
        results = structure(adata, arguments.max_epochs, arguments.seed)
        print(results.round(3).to_string(index=False), flush=True)
        tables.append(results.assign(experiment="structure"))
    if arguments.experiment != "structure":
        keys = {"condition_key": "condition", "labels_key": "cell_type", "source": "ctrl", "target": "stim"}
        train = {"max_epochs": arguments.max_epochs, "enable_progress_bar": False}
        edits = []
        for name in arguments.graphs:
            scvi.settings.seed = arguments.seed
            named = {f"{name}, {edit}": EDITS[edit] for edit in EDITS}
            method = NeuronEditMethod(named, model=MODELS[name], train=train)
            edits.append(summarize(run_leave_one_out(adata, [method], **keys)).reset_index())
            print(edits[-1].round(3).to_string(index=False), flush=True)
        tables.append(pd.concat(edits).drop_duplicates("method").assign(experiment="edit"))
    if arguments.json:
        write_json(pd.concat(tables, ignore_index=True), arguments.json)


if __name__ == "__main__":
    main()
