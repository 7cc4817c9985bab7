"""Training speed of SAMS-VAE and its relatives beside scvi.model.SCVI, on the same cells.

    python benchmarks/perturbation_speed.py [--batch-size 512] [--repeats 3] [--json results.json]

Simulated counts, 100 perturbations. All networks have hidden layers of the same width and number, all read minibatches of the
same size. Times alone say little on a shared machine: the ratio to SCVI is of runs in turn, median over repeats.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scvi.model import SCVI

from scvi_neuronedit import CPAVAE, SAMSVAE, ConditionalVAE, SVAEPlus
from scvi_neuronedit.benchmark import write_json
from scvi_neuronedit.datasets import simulate_mechanism_shifts

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

NETWORK = {"n_hidden": 128, "n_layers": 2, "n_latent": 20}


def trainers(adata: AnnData, batch_size: int, epochs: int) -> dict[str, Callable[[], None]]:
    """A function that trains for some epochs, for each model."""
    common = {"batch_size": batch_size, "enable_progress_bar": False, "accelerator": "cpu"}
    steps = epochs * -(-adata.n_obs // batch_size)

    def train_scvi() -> None:
        SCVI.setup_anndata(adata)
        SCVI(adata, gene_likelihood="nb", **NETWORK).train(max_epochs=epochs, train_size=1.0, **common)

    def trainer(cls: type, **arguments) -> Callable[[], None]:
        def train() -> None:
            cls.setup_anndata(adata, perturbation_key="perturbation", control="ctrl")
            # masks from the first step: they cost something, which a few steps without would hide
            start = {"dense_share": 0} if cls is SAMSVAE else {}
            cls(adata, **NETWORK, **arguments).train(max_steps=steps, **start, **common)

        return train

    functions = {"SCVI": train_scvi}
    for particles in (1, 5):
        for cls in (SAMSVAE, CPAVAE, SVAEPlus, ConditionalVAE):
            functions[f"{cls.__name__}, n_particles={particles}"] = trainer(cls, n_particles=particles)
    return functions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--cells", type=int, default=100, help="cells of each perturbation")
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)

    adata = simulate_mechanism_shifts(n_genes=arguments.genes, n_cells=(arguments.cells, 0, 0), likelihood="nb")
    functions = trainers(adata, arguments.batch_size, arguments.epochs)
    seconds = np.empty((arguments.repeats + 1, len(functions)))
    for times in seconds:
        for i, train in enumerate(functions.values()):
            start = time.perf_counter()
            train()
            times[i] = time.perf_counter() - start
    seconds = seconds[1:]  # the first round warms up
    results = pd.DataFrame(
        {
            "model": list(functions),
            "cells_per_second": np.median(adata.n_obs * arguments.epochs / seconds, axis=0).round(),
            "ratio_to_scvi": np.median(seconds[:, :1] / seconds, axis=0).round(2),
        }
    )
    print(f"{adata.n_obs:,} cells x {adata.n_vars:,} genes, batch size {arguments.batch_size}, {NETWORK}")
    print(results.to_string(index=False))
    if arguments.json:
        write_json(results, arguments.json)


if __name__ == "__main__":
    main()
