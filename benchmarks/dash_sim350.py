"""Prune regulatory dynamics of SIM350, with and without prior knowledge, and compare what is left with the true network.

    python benchmarks/dash_sim350.py [--data sim350] [--noise 0.05] [--seeds 0 1 2] [--methods DASH ...] [--json out.json]
    python benchmarks/dash_sim350.py --hema hema_b [--methods DASH ...] [--json out.json]

SIM350: 160 trajectories (140 to train, 10 to validate, 10 to test) are simulated anew for each seed; a noise of 5 % comes
with the prior of which 5 % of the edges are wrong. Errors are mean squared errors against noise-free values. Without
--data the folder is looked for in the folder named by NEURONEDIT_DATA. A run that was cut off goes on where --json ends.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scvi
import torch
from torch.nn import functional

from scvi_neuronedit import RegulatoryODE
from scvi_neuronedit.benchmark import write_json
from scvi_neuronedit.datasets import ODESystem, read_trajectories, simulate_trajectories
from scvi_neuronedit.metrics import network_scores
from scvi_neuronedit.nn import effective_weight
from scvi_neuronedit.train import DASHPruning

DATA = Path(os.environ.get("NEURONEDIT_DATA", "../shared/data"))
KEYS = {"time_key": "time", "trajectory_key": "trajectory"}
SOLVER = {"solver": "rk4", "adjoint": False}
EPOCHS = 200

# name: (schedule, arguments of the model); nobody stops early, the validation trajectories only choose the epoch
METHODS = {
    "DASH": (lambda: DASHPruning((0.8, 0.95), patience=None), {}),
    "DASH, published lambdas": (lambda: DASHPruning((0.5, 0.05), scaling="paper", patience=None), {}),
    "magnitude": (lambda: DASHPruning(0, patience=None), {}),
    "prior only": (lambda: DASHPruning(1, scaling="paper", patience=None), {}),
    "dense": (lambda: DASHPruning(0, first=0, amount=0, patience=None), {}),
    "magnitude + fine-tuning": (
        lambda: DASHPruning(0, start=120, first=0.87, every=None, target_sparsity=0.87, patience=None),
        {"prior_loss_weight": 0.01},
    ),
}
TRAINING = {"sim350": {"batch_size": 8, "lr": 2e-3}, "hema_b": {"batch_size": 32, "lr": 5e-3}}


def load(folder: Path, noise: float) -> tuple[ODESystem, list[str], pd.DataFrame, pd.DataFrame]:
    """System, genes in the order of the files, true effects and corrupted prior."""
    system = ODESystem.read_csv(folder / "ode_system.csv")
    genes = pd.read_csv(folder / "gene_names.csv")["x"].str.removesuffix("_input").tolist()
    name = {0.0: "0.0", 0.05: "0.025", 0.1: "0.05"}[noise]
    prior = pd.read_csv(folder / f"prior_noise_{name}.csv.gz", header=None).to_numpy()
    return system, genes, system.network.loc[genes, genes], pd.DataFrame(prior, genes, genes)


def errors(model: RegulatoryODE, values: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """One-step and roll-out error on clean trajectories, of shape ``[n_trajectories, n_times, n_genes]``."""
    values = torch.as_tensor(values, dtype=torch.float32)
    durations = torch.as_tensor(np.diff(times), dtype=torch.float32).repeat(len(values))
    start, end = (part.reshape(-1, values.shape[-1]) for part in (values[:, :-1], values[:, 1:]))
    one_step = functional.mse_loss(model.module.step(start, durations), end)
    path = model.predict_trajectory(values[:, 0].numpy(), times).X.reshape(values.shape)
    return float(one_step), float(((path[:, 1:] - values[:, 1:].numpy()) ** 2).mean())


def sparsity(model: RegulatoryODE) -> float:
    """As the paper counts it: zeros among weights, those to genes without dynamics included."""
    d = model.module.dynamics
    alive = d.gene_multipliers.detach() > 0
    weights = [effective_weight(layer).detach() for layer in (d.sums, d.products)]
    weights += [effective_weight(layer).detach() * alive[:, None] for layer in (d.combine_sums, d.combine_products)]
    return float(sum((w == 0).sum() for w in weights)) / sum(w.numel() for w in weights)


def fit(data: str, adata, prior, method: str, seed: int, rows) -> tuple[RegulatoryODE, dict[str, float]]:
    """Train one method; how long it took."""
    pruning, arguments = METHODS[method]
    scvi.settings.seed = seed
    RegulatoryODE.setup_anndata(adata, **KEYS)
    model = RegulatoryODE(adata, prior=prior, **SOLVER, **arguments)
    start = time.perf_counter()
    model.train(
        EPOCHS,
        batch_size=TRAINING[data]["batch_size"],
        pruning=pruning(),
        plan_kwargs={"lr": TRAINING[data]["lr"]},
        datasplitter_kwargs={"external_indexing": rows},
        accelerator="cpu",
        enable_progress_bar=False,
    )
    how = {"epoch": model.pruning_["best_epoch"], "validation_loss": model.pruning_["best_loss"]}
    return model, {**how, "minutes": (time.perf_counter() - start) / 60}


def fixed_rows(truth: pd.DataFrame, prior: pd.DataFrame) -> dict[str, np.ndarray]:
    """Networks that need no training."""
    edges = truth.to_numpy() != 0
    regulators, regulated = edges.any(axis=1), edges.any(axis=0)
    return {
        "prior alone": prior.to_numpy(),
        "every regulator x every varying gene": np.outer(regulators, regulated).astype(float),
        "every regulator x every gene": np.outer(regulators, np.ones(len(edges))),
    }


def run_sim350(folder: Path, noise: float, seed: int, methods: list[str], done: list[dict]):
    """Yields a row for each method."""
    system, genes, truth, prior = load(folder, noise)
    published = read_trajectories(folder / "test_10_trajectories.csv.gz", genes)
    times = published.obs["time"].to_numpy()[:5]
    first = published[published.obs["time"] == 0, system.genes].X[:, system.is_input]
    simulated = simulate_trajectories(
        system, 160, times, noise=noise, input_means=first.mean(axis=0, dtype=float), random_state=seed
    )[:, genes].copy()
    train, test = simulated[:750].copy(), simulated[750:].layers["noise_free"].reshape(10, 5, -1)
    key = {"data": "sim350", "noise": noise, "seed": seed}
    finished = {(row["method"], row["noise"], row["seed"]) for row in done}
    for name, effects in fixed_rows(truth, prior).items():
        if (name, noise, seed) not in finished:
            yield {"method": name, **key, "sparsity": float("nan"), **network_scores(effects, truth, prior)}
    if ("no change", noise, seed) not in finished:
        paths = {"": test, "published_": published.X.reshape(10, 5, -1)}
        one_step = {f"{which}one_step_mse": float((np.diff(x, axis=1) ** 2).mean()) for which, x in paths.items()}
        roll_out = {f"{which}roll_out_mse": float(((x[:, 1:] - x[:, :1]) ** 2).mean()) for which, x in paths.items()}
        yield {"method": "no change", **key, **one_step, **roll_out}
    for name in methods:
        if (name, noise, seed) in finished:
            continue
        model, how = fit("sim350", train.copy(), prior, name, seed, [np.arange(700), np.arange(700, 750)])
        one_step, roll_out = errors(model, test, times)
        published_one_step, published_roll_out = errors(model, published.X.reshape(10, 5, -1), times)
        yield {
            "method": name,
            **key,
            "sparsity": sparsity(model),
            **network_scores(model.module.dynamics.effects().numpy(), truth, prior),
            "one_step_mse": one_step,
            "roll_out_mse": roll_out,
            "published_one_step_mse": published_one_step,
            "published_roll_out_mse": published_roll_out,
            **how,
        }


def run_hema(folder: Path, seed: int, methods: list[str], done: list[dict]):
    """Yields a row for each method: B lineage of bone marrow, one sample to train, one to validate, three to test."""
    genes = pd.read_csv(folder / "gene_names.csv")["gene"].tolist()
    prior = pd.DataFrame(pd.read_csv(folder / "prior_529.csv.gz", header=None).to_numpy(), genes, genes)
    train = read_trajectories(folder / "B_2samples_train_val.csv.gz", genes)
    test = read_trajectories(folder / "B_3samples_test.csv.gz", genes)
    in_first = (train.obs["trajectory"] == "trajectory_1").to_numpy()
    rows = [np.flatnonzero(in_first), np.flatnonzero(~in_first)]
    finished = {(row["method"], row["seed"]) for row in done}
    for name in methods:
        if (name, seed) in finished:
            continue
        model, how = fit("hema_b", train.copy(), prior, name, seed, rows)
        one_step, no_change = [], []
        for _, sample in test.obs.groupby("trajectory", observed=True):
            values, at = torch.from_numpy(test[sample.index].X), sample["time"].to_numpy()
            durations = torch.as_tensor(np.diff(at), dtype=torch.float32)
            one_step.append(float(functional.mse_loss(model.module.step(values[:-1], durations), values[1:])))
            no_change.append(float(functional.mse_loss(values[:-1], values[1:])))
        edges = model.module.dynamics.effects().numpy() != 0
        yield {
            "method": name,
            "data": "hema_b",
            "seed": seed,
            "sparsity": sparsity(model),
            "one_step_mse": float(np.mean(one_step)),
            "no_change_mse": float(np.mean(no_change)),
            "mean_out_degree": float(edges.sum(axis=1).mean()),
            "median_out_degree": float(np.median(edges.sum(axis=1))),
            "edges_in_prior": float((prior.to_numpy() != 0)[edges].mean()) if edges.any() else float("nan"),
            **how,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "sim350")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.05], choices=[0.0, 0.05, 0.1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--lambdas", type=float, nargs=2, help="weights of the prior of DASH, instead of 0.8 and 0.95")
    parser.add_argument("--hema", type=Path, help="run on this folder of bone marrow trajectories instead")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not (arguments.hema or arguments.data).exists():
        parser.error(f"{arguments.hema or arguments.data} does not exist; name the folder with --data or --hema")

    if arguments.lambdas:
        METHODS["DASH"] = (lambda: DASHPruning(arguments.lambdas, patience=None), {})
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    done = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else []
    for seed in arguments.seeds:
        for noise in arguments.noise if arguments.hema is None else [None]:
            rows = (
                run_sim350(arguments.data, noise, seed, arguments.methods, done)
                if arguments.hema is None
                else run_hema(arguments.hema, seed, arguments.methods, done)
            )
            for row in rows:
                done.append(row)
                print({k: round(v, 7) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
                if arguments.json:
                    write_json(pd.DataFrame(done), arguments.json)
    results = pd.DataFrame(done)
    groups = ["noise", "method"] if "noise" in results else ["method"]
    means = results.drop(columns=["data", "seed"]).groupby(groups, sort=False).mean()
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(means.round(7).to_string())


if __name__ == "__main__":
    main()
