"""SAMS-VAE and its relatives on the simulation of Bereket & Karaletsos (2023), whose masks and effects are known.

    python benchmarks/samsvae_simulation.py [--likelihood normal] [--steps 30000] [--seed 0] [--json results.json]

100 perturbations and a control, 500 training and 100 test cells each, 15 latent variables. Prints for each model the test
IWELBO (100 draws, nats per cell), how well the masks are recovered (over matched latent variables), and the correlation of
predicted with measured average treatment effects of the perturbations that have one, over test cells. The defaults are the
paper's settings and want a GPU; the tables of the documentation name the settings they were made with.
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
import scvi

from scvi_neuronedit import CPAVAE, SAMSVAE, ConditionalVAE, SVAEPlus
from scvi_neuronedit.benchmark import write_json
from scvi_neuronedit.datasets import simulate_mechanism_shifts
from scvi_neuronedit.metrics import average_treatment_effect, mask_recovery, treatment_effect_scores

if TYPE_CHECKING:
    from anndata import AnnData

MODELS = {
    "SAMS-VAE correlated": (SAMSVAE, {"guide": "correlated"}),
    "SAMS-VAE mean field": (SAMSVAE, {"guide": "mean_field"}),
    "CPA-VAE": (CPAVAE, {}),
    "SVAE+": (SVAEPlus, {}),
    "conditional VAE": (ConditionalVAE, {}),
}


def evaluate(name: str, adata: AnnData, arguments: argparse.Namespace) -> dict[str, float | str]:
    """Train one model and score it."""
    train, test = (adata[adata.obs["split"] == split].copy() for split in ("train", "test"))
    cls, own = MODELS[name]
    own = {"mask_probability": 2 / 15, **own} if cls is SAMSVAE else own
    scvi.settings.seed = arguments.seed
    cls.setup_anndata(train, perturbation_key="perturbation", control="ctrl")
    model = cls(
        train,
        n_latent=15,
        likelihood=arguments.likelihood,
        n_hidden=arguments.hidden,
        n_layers=arguments.layers,
        n_particles=arguments.particles,
        **own,
    )
    start = time.perf_counter()
    plan = {"lr": arguments.lr}
    model.train(
        max_steps=arguments.steps, plan_kwargs=plan, enable_progress_bar=False, accelerator=arguments.accelerator
    )
    seconds = time.perf_counter() - start
    row = {"model": name, "iwelbo": model.get_iwelbo(n=100, adata=test), "elbo": model.get_elbo(test)}
    if cls in (SAMSVAE, SVAEPlus):
        effects = model.get_perturbation_effects()
        inclusion = effects.pivot(index="perturbation", columns="latent", values="inclusion_probability")
        # the simulation's order of perturbations: P1, P2, ..., P100
        inclusion = inclusion.loc[[f"P{t + 1}" for t in range(len(inclusion))]]
        row |= mask_recovery(inclusion.to_numpy(), adata.uns["mask"])
        row["expected_active"] = float(inclusion.to_numpy().mean())
    method = "mean" if arguments.likelihood == "normal" else "perturbseq"
    observed = average_treatment_effect(test, "perturbation", "ctrl", method=method)
    # a perturbation without shifts has only noise to correlate with
    observed = observed.loc[[f"P{t + 1}" for t in np.flatnonzero(adata.uns["mask"].any(axis=1))]]
    predicted = model.get_average_treatment_effect(method=method, adata=test).loc[observed.index]
    scores = treatment_effect_scores(predicted, observed).mean()
    return row | {"ate_pearson": scores["pearson"], "ate_pearson_top20": scores["pearson_top20"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--likelihood", choices=("normal", "nb"), default="normal")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--particles", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=400)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    adata = simulate_mechanism_shifts(likelihood=arguments.likelihood, random_state=arguments.seed)
    rows = []
    for name in arguments.models:
        rows.append({**evaluate(name, adata, arguments), "seed": arguments.seed})
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False), flush=True)
    results = pd.DataFrame(rows)
    print(f"\nmeans over cells or perturbations, {vars(arguments)}")
    print(results.round(3).to_string(index=False))
    if arguments.json:
        write_json(results, arguments.json)


if __name__ == "__main__":
    main()
