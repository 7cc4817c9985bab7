"""Activation images of handwritten digits: accuracy and reconstruction against none, L1 and L2, over weights.

    python benchmarks/graph_digits.py [--seeds 3] [--epochs 40] [--figure loss_against_weight.png] [--json results.json]

The 1,797 digits of scikit-learn (8 x 8 pixels), a third held out. The network, 64 -> 100 -> 64 (a grid of 8 x 8 neurons) with
leaky ReLUs, reads digits into ten logits or, as an autoencoder, back into pixels. Penalties of the 64 neurons: mean squared
(L2) or absolute (L1) activation per cell, or the graph penalty z^T L z of the grid, each with dropout of 0.3 behind it
in the classifier. Moran's I is that of the activation image of a held-out digit, averaged; for a random order of neurons it
is about -0.02.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from scvi_neuronedit.benchmark import write_json
from scvi_neuronedit.metrics import morans_i
from scvi_neuronedit.nn import GraphPenalty, named_graph
from scvi_neuronedit.pl import loss_against_weight

GRID = named_graph("grid", 64)
PENALTIES = {
    "L1": lambda z: z.abs().sum(dim=1).mean(),
    "L2": lambda z: z.square().sum(dim=1).mean(),
    "grid": GraphPenalty(GRID),
    "grid, share of the variance": GraphPenalty(GRID, "symmetric", "variance", balance=1),
}
WEIGHTS = (1e-3, 1e-2, 1e-1, 1.0)


def run(task: str, penalty: str, weight: float, seed: int, epochs: int) -> dict:
    """Train one network, measure it on the held-out digits."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32) / 16
    parts = train_test_split(x, y, test_size=1 / 3, random_state=seed, stratify=y)
    x, held_out, y, truth = (torch.from_numpy(part) for part in parts)
    torch.manual_seed(seed)
    first = nn.Sequential(nn.Linear(64, 100), nn.LeakyReLU(0.2), nn.Linear(100, 64), nn.LeakyReLU(0.2))
    dropout = [nn.Dropout(0.3)] if task == "classify" else []
    second = nn.Sequential(*dropout, nn.Linear(64, 10 if task == "classify" else 64))
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            z = first(x[batch])
            output = second(z)
            if task == "classify":
                loss = functional.cross_entropy(output, y[batch])
            else:
                loss = (output - x[batch]).square().sum(dim=1).mean()
            if weight:
                loss = loss + weight * PENALTIES[penalty](z)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        z, second = first(held_out), second.eval()
        output = second(z)
        result = {"task": task, "method": penalty, "weight": weight, "seed": seed}
        if task == "classify":
            result["accuracy"] = 100 * float((output.argmax(dim=1) == truth).float().mean())
        else:
            result["mse"] = float((output - held_out).square().mean())
    result["morans_i"] = float(np.nanmean(morans_i(z.numpy(), GRID)))
    result["activation_sd"] = float(z.std(dim=0).mean())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--figure", type=Path, help="draw accuracy lost, and Moran's I, against the weight")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    settings = [("none", 0.0)] + [(name, weight) for name in PENALTIES for weight in WEIGHTS]
    rows = [
        run(task, name, weight, seed, arguments.epochs)
        for task in ("classify", "reconstruct")
        for name, weight in settings
        for seed in range(arguments.seeds)
    ]
    results = pd.DataFrame(rows)
    for task, table in results.groupby("task", sort=False):
        print(f"\n{task}: mean and standard deviation over {arguments.seeds} seeds")
        table = table.drop(columns=["task", "seed"]).dropna(axis=1)
        print(table.groupby(["method", "weight"], sort=False).agg(["mean", "std"]).round(4).to_string())
    if arguments.figure:
        table = results[(results["task"] == "classify") & results["method"].isin(["none", "grid"])]
        error = 100 - table.pivot(index="weight", columns="seed", values="accuracy")
        ax = loss_against_weight(
            error.index, error, table.pivot(index="weight", columns="seed", values="morans_i"), save=None
        )
        ax.set_ylabel("held-out error (%)", color="C0")
        ax.figure.savefig(arguments.figure, dpi=150)
    if arguments.json:
        write_json(results, arguments.json)


if __name__ == "__main__":
    main()
