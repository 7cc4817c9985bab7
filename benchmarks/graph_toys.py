"""Do structured neurons find a structure that is known? Modules of genes, a hidden line, a circle; with and without.

    python benchmarks/graph_toys.py [--seeds 13 14] [--data modules path ring] [--json results.json]

Modules: 3 modules of 5 genes, correlation 0.6 within, each on (+10) in half of 3,000 cells; 15 neurons in 3 cliques, or on a
learned graph (3 nearest neurons, correlation above 0.5). `purity`: share of neurons that follow the module most frequent in their group; chance
is that of random groups. Without the penalty the same groups are taken, and the communities of the co-activation graph.
`selectivity` is the mean over neurons of the absolute correlation with the module they follow.

Line, circle: 2,000 cells at random positions; 60 genes switch on or off along the line, or peak around the circle; noise 0.5.
20 neurons in a path or ring. `cells`: rank correlation of a cell's place on the neurons' graph with its latent position
(first eigenvectors of the Laplacian). `neurons`: rank correlation of a neuron's number with the position at which it is most
active. On the circle both are circular, |Spearman| on the line.

`as trained` is without what `readable_axes` does after training. Settings were chosen on the seeds 0 to 12, 100 and 101; the default seeds were not looked at before.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import scvi
from anndata import AnnData
from scipy.stats import spearmanr

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.benchmark import write_json
from scvi_neuronedit.metrics import circular_correlation, group_purity

GUARDED = {"normalize": "none"}


def fit(x: np.ndarray, seed: int, max_epochs: int, **kwargs) -> tuple[NeuronEdit, np.ndarray]:
    """Train; the model and its code."""
    scvi.settings.seed = seed
    adata = AnnData(x.astype(np.float32))
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata, hidden=(64,), **kwargs)
    model.train(max_epochs=max_epochs, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    return model, model.get_activations()


def as_trained(arguments: dict) -> dict:
    """The same without the choice of axes after training."""
    return arguments | {"graph_params": arguments["graph_params"] | {"readable": False, "unmix": False}}


def modules(seed: int) -> list[dict]:
    """Purity of neuron groups."""
    rng = np.random.default_rng(seed)
    on = rng.random((3000, 3)) < 0.5
    factor = np.linalg.cholesky(np.full((5, 5), 0.6) + 0.4 * np.eye(5))
    x = (rng.normal(size=(3000, 3, 5)) @ factor.T + 10 * on[:, :, None]).reshape(3000, 15)
    groups, rows = np.repeat(np.arange(3), 5), []
    learned = {
        "neuron_graph": "learned",
        "graph_weight": 1.0,
        "graph_params": GUARDED | {"n_neighbors": 3, "min_correlation": 0.5, "rebuild_every": 20, "unmix": True},
    }
    settings = {
        "none": {},
        "3 cliques": {
            "neuron_graph": "cliques",
            "graph_weight": 1.0,
            "graph_params": GUARDED | {"n_groups": 3, "unmix": True},
        },
        "learned, as trained": as_trained(learned),
        "learned": learned,
    }
    for name, arguments in settings.items():
        model, z = fit(x, seed, 25, n_latent=15, **arguments)
        correlation = np.abs(np.corrcoef(z.T, on.T)[:15, 15:])
        truth = correlation.argmax(axis=1)
        graph = model.get_neuron_graph()
        chance = np.mean([group_purity(rng.permutation(groups), truth) for _ in range(200)])
        purity = group_purity(graph.modules if "learned" in name else groups, truth)
        numbers = {"purity": purity, "chance": chance, "selectivity": correlation.max(axis=1).mean()}
        rows.append({"method": name, **numbers, "components": graph.n_components, "modules": len(set(truth))})
        if name == "none":
            found = {"purity": group_purity(graph.modules, truth), "chance": chance}
            rows.append(rows[-1] | {"method": "none, clustered afterwards", **found, "modules": graph.n_modules})
    return [{"data": "modules", "seed": seed, **row} for row in rows]


def positions(kind: str, seed: int) -> list[dict]:
    """Order of neurons and cells on a path or a ring."""
    rng = np.random.default_rng(seed)
    t = rng.random((2000, 1))
    if kind == "ring":
        x = np.exp(np.cos(2 * np.pi * (t - rng.random(60))))
    else:
        slope = rng.choice([-1, 1], 60) / rng.uniform(0.05, 0.2, 60)
        x = 3 / (1 + np.exp(slope * (rng.random(60) - t)))
    x, t, rows = x + rng.normal(0, 0.5, x.shape), t[:, 0], []
    structured = {"neuron_graph": kind, "graph_weight": 1.0, "graph_params": GUARDED | {"noise": 2.0}}
    settings = {"none": {}, kind: structured}
    if kind == "path":
        settings[f"{kind}, as trained"] = as_trained(structured)
    for name, arguments in settings.items():
        _, z = fit(x, seed, 75, n_latent=20, **arguments)
        bins = (40 * t).astype(int)
        peak = np.array([z[bins == b].mean(axis=0) for b in range(40)]).argmax(axis=0)
        number = np.arange(20)
        z = z - z.mean(axis=0)
        if kind == "ring":
            place = np.arctan2(z @ np.sin(2 * np.pi * number / 20), z @ np.cos(2 * np.pi * number / 20))
            some = rng.permutation(2000)[:500]
            of_cells, of_neurons = circular_correlation(place[some], t[some]), circular_correlation(peak, number)
        else:
            place = z @ np.cos(np.pi * (number + 0.5) / 20)
            of_cells, of_neurons = spearmanr(place, t)[0], spearmanr(peak, number)[0]
        rows.append({"data": kind, "seed": seed, "method": name, "cells": abs(of_cells), "neurons": abs(of_neurons)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=range(13, 23))
    parser.add_argument("--data", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [row for name in arguments.data for seed in arguments.seeds for row in EXPERIMENTS[name](seed)]
    results = pd.DataFrame(rows)
    for name, table in results.groupby("data", sort=False):
        table = table.dropna(axis=1)
        print(f"\n{name}, seed by seed and over seeds")
        print(table.round(3).to_string(index=False))
        numbers = table.drop(columns=["data", "seed"]).groupby("method", sort=False)
        print(numbers.agg(["mean", "min", "max"]).round(3).to_string())
    if arguments.json:
        write_json(results, arguments.json)


EXPERIMENTS = {"modules": modules, "path": partial(positions, "path"), "ring": partial(positions, "ring")}

if __name__ == "__main__":
    main()
