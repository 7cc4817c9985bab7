"""Time and error of one training step of regulatory dynamics with different solvers.

    python benchmarks/regulatory_solvers.py [--data sim350/ode_system.csv] [--json out.json]

The dynamics (350 genes, 40 neurons) are trained for a short while first. The error is the root mean square difference from
dopri8 at a tolerance of 1e-7 over all pairs of 20 trajectories; the time is the median of 15 steps, forward and backward, on
one thread. Without --data the file is looked for in the folder named by NEURONEDIT_DATA.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scvi
import torch

from scvi_neuronedit import RegulatoryODE
from scvi_neuronedit.benchmark import write_json
from scvi_neuronedit.datasets import ODESystem, simulate_trajectories
from scvi_neuronedit.nn import integrate

DATA = Path(os.environ.get("NEURONEDIT_DATA", "../shared/data")) / "sim350" / "ode_system.csv"
SOLVERS = [
    {"solver": "dopri5", "adjoint": True},
    {"solver": "dopri5", "adjoint": False},
    {"solver": "bosh3", "adjoint": False},
    {"solver": "rk4", "adjoint": True},
    {"solver": "rk4", "adjoint": False},
    {"solver": "midpoint", "adjoint": False},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    scvi.settings.seed = 0

    adata = simulate_trajectories(ODESystem.read_csv(arguments.data), 60, noise=0.05)
    RegulatoryODE.setup_anndata(adata, time_key="time", trajectory_key="trajectory")
    model = RegulatoryODE(adata, solver="rk4", adjoint=False)
    model.train(arguments.epochs, batch_size=8, plan_kwargs={"lr": 2e-3}, accelerator="cpu", enable_progress_bar=False)
    dynamics = model.module.dynamics.train()
    values = torch.from_numpy(adata.X[:100]).reshape(20, 5, -1)
    start, end = (part.reshape(-1, adata.n_vars) for part in (values[:, :-1], values[:, 1:]))
    duration = torch.tensor([2.0, 1.0, 4.0, 2.0]).repeat(20)
    with torch.no_grad():
        exact = integrate(dynamics, start, duration, solver="dopri8", tolerance=1e-7, adjoint=False)
    rows = []
    for solver in SOLVERS:
        with torch.no_grad():
            error = (integrate(dynamics, start, duration, **solver) - exact).square().mean().sqrt()
        row = {**solver, "rms_error": float(error)}
        for n_pairs in (8, 80):
            seconds = []
            for _ in range(15):
                begin = time.perf_counter()
                loss = (integrate(dynamics, start[:n_pairs], duration[:n_pairs], **solver) - end[:n_pairs]).square()
                loss.mean().backward()
                seconds.append(time.perf_counter() - begin)
            row[f"ms_{n_pairs}_pairs"] = 1e3 * float(np.median(seconds))
        rows.append(row)
    results = pd.DataFrame(rows)
    print(results.to_string(index=False))
    if arguments.json:
        write_json(results, arguments.json)


if __name__ == "__main__":
    main()
