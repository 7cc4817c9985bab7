"""Training against a bare PyTorch loop, and edits against the least work a percentile edit could be.

    python benchmarks/speed.py [--repeats 5] [--cells 1000000] [--json results.json]

Prints ratios of times measured in turn in one run, median over repeats: times alone say little on a shared machine.
"""

from __future__ import annotations

import argparse
import gc
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.benchmark import write_json
from scvi_neuronedit.edit import Edit, composition_weights
from scvi_neuronedit.nn import Autoencoder

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_SIZE = 128


def paired(first: Callable[[], None], second: Callable[[], None], repeats: int) -> dict[str, float]:
    """Median seconds of both, run in turn, and the median of their ratios."""
    times = []
    for _ in range(repeats + 1):
        pair = []
        for function in (first, second):
            gc.collect()
            start = time.perf_counter()
            function()
            pair.append(time.perf_counter() - start)
        times.append(pair)
    times = np.array(times[1:])  # the first round warms up
    return {
        "seconds": np.median(times[:, 0]),
        "seconds_floor": np.median(times[:, 1]),
        "ratio": np.median(times[:, 0] / times[:, 1]),
    }


def bare_loop(x: torch.Tensor, max_epochs: int) -> None:
    """The same network, loss and optimiser in a plain loop."""
    network = Autoencoder(x.shape[1]).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=0.01, weight_decay=1e-6)
    for _ in range(max_epochs):
        order = torch.randperm(len(x))
        for first in range(0, len(x), BATCH_SIZE):
            minibatch = x[order[first : first + BATCH_SIZE]]
            loss = 0.5 * ((network(minibatch) - minibatch) ** 2).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def time_training(n_cells: int, n_features: int, max_epochs: int, repeats: int) -> dict[str, float]:
    x = np.random.default_rng(0).normal(size=(n_cells, n_features)).astype(np.float32)
    adata = AnnData(x)
    NeuronEdit.setup_anndata(adata)
    model = NeuronEdit(adata)
    tensor = torch.from_numpy(x)
    return paired(
        lambda: model.train(max_epochs=max_epochs, train_size=1.0, accelerator="cpu", enable_progress_bar=False),
        lambda: bare_loop(tensor, max_epochs),
        repeats,
    )


def sort_and_look_up(activations: np.ndarray, table: np.ndarray) -> None:
    """Sort each column once, one look-up in a fine table per value."""
    columns = np.ascontiguousarray(activations.T)
    low, high = columns.min(), columns.max()
    bins = ((columns - low) * ((len(table) - 1) / (high - low))).astype(np.int32)
    columns.sort(axis=1)
    table[bins]


def time_edit(method: str, n_cells: int, n_neurons: int, repeats: int, *, weighted: bool) -> dict[str, float]:
    activations = np.random.default_rng(0).normal(size=(n_cells, n_neurons)).astype(np.float32)
    source, target = activations[: n_cells // 2], activations[n_cells // 2 :]
    table = np.linspace(-1, 1, 4096, dtype=np.float32)
    labels = np.arange(n_cells) % 7 % 3
    sides = labels[: n_cells // 2], labels[n_cells // 2 :]
    kwargs = {}
    if weighted:  # as learn_edit does where labels are registered
        kwargs = dict(zip(("source_weights", "target_weights"), composition_weights(*sides), strict=True), groups=sides)
    return paired(
        lambda: Edit.learn(source, target, method=method, **kwargs)(activations),
        lambda: sort_and_look_up(activations, table),
        repeats,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    rows = []
    for n_cells, n_features, max_epochs in ((20_000, 40, 5), (6_000, 2_000, 3)):
        timing = time_training(n_cells, n_features, max_epochs, arguments.repeats)
        rows.append({"what": "training / bare loop", "size": f"{n_cells:,} x {n_features:,}", **timing})
    for method, weighted in (("percentile", False), ("percentile", True), ("group", True)):
        timing = time_edit(method, arguments.cells, 128, max(1, arguments.repeats // 2), weighted=weighted)
        name = f"{method} edit, {'matched labels' if weighted else 'no labels'} / sort + look-up"
        rows.append({"what": name, "size": f"{arguments.cells:,} x 128", **timing})
    results = pd.DataFrame(rows)
    print(results.round(3).to_string(index=False))
    if arguments.json:
        write_json(results, arguments.json)


if __name__ == "__main__":
    main()
