"""What editing reaches where it is easy, and does where it cannot work, on simulated counts whose truth is known.

    python benchmarks/simulated_limits.py [--seed 0] [--json results.json]

Two cases, in each of which every cell type is left out in turn: all types respond alike; and all respond alike but the last one,
which does not respond at all. Prints energy distances to the held-out cells, as ratios to unchanged control, beside those of one
half of the held-out cells to the other (the ceiling); of the type that does not respond, the distances themselves. "true gene
mean shift" is told the true change of every gene's mean, and adds it to every cell: what no better mean can mend.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
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
from scvi_neuronedit.datasets import simulate_conditions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scvi_neuronedit.benchmark import Task

KEYS = {"condition_key": "condition", "labels_key": "cell_type", "source": "ctrl", "target": "stim"}


def true_gene_mean_shift(task: Task) -> dict[str, NDArray]:
    shift = task.truth.mean(axis=0) - task.control.mean(axis=0)
    return {"true gene mean shift": np.maximum(task.control + shift, 0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "left out of learning", UserWarning)

    methods = [unchanged, gene_mean_shift, true_gene_mean_shift]
    methods.append(NeuronEditMethod(train={"enable_progress_bar": False, "accelerator": "cpu"}))
    tables = []
    for case, non_responders in {"all types respond alike": (), "type_6 does not respond": ("type_6",)}.items():
        adata = simulate_conditions(
            2500, 600, type_specificity=0, non_responders=non_responders, random_state=arguments.seed
        )
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        scvi.settings.seed = arguments.seed
        results = run_leave_one_out(adata, methods, **KEYS)
        print(f"\n{case}")
        responding = results[~results["group"].isin(non_responders)]
        print_report(responding)
        for group in non_responders:
            print(f"\n{group}, egene undivided (there is no change to be a ratio to)")
            print(results[results["group"] == group].set_index("method")["egene"].round(3).to_string())
        tables.append(results.assign(case=case))
    if arguments.json:
        write_json(pd.concat(tables), arguments.json)


if __name__ == "__main__":
    main()
