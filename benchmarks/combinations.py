"""Predict cells with two perturbations from cells with one: doubles held out from training.

    python benchmarks/combinations.py [--data perturb_norman.h5ad] [--steps 4000] [--seed 0] [--json results.json]

Without --data on simulated counts, once with doubles that are additive in log-rates and once with interactions. A file
holds counts in X and labels such as "A+B" in obs["condition"] ("control" for controls); doubles of which both singles are
measured are held out in turn of training for all. Scores are of held-out doubles, on log1p of counts per 10,000: correlation
of predicted with true change (delta; all genes and the 100 most differential), energy distance in 30 principal components
as a ratio to no change, and squared error of the mean as such a ratio; with standard errors over doubles.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scvi
from anndata import AnnData, read_h5ad
from sklearn.decomposition import PCA

from scvi_neuronedit import CPAVAE, SAMSVAE, ConditionalVAE, NeuronEdit, SVAEPlus
from scvi_neuronedit.benchmark import CEILING, write_json
from scvi_neuronedit.data import MatrixReader
from scvi_neuronedit.datasets import simulate_combinations
from scvi_neuronedit.metrics import prediction_scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Predictions = dict[str, "NDArray"]
SCORES = ["pearson_delta", "pearson_delta_deg", "edist", "nmse"]


@dataclass
class Task:
    """Counts with labels in obs["perturbation"], controls "ctrl"; which doubles are held out; how long to train."""

    adata: AnnData
    held_out: list[str]
    steps: int
    n_latent: int
    seed: int

    def __post_init__(self) -> None:
        self.train = self.adata[~self.adata.obs["perturbation"].isin(self.held_out)].copy()

    def counts(self, label: str) -> NDArray:
        rows = np.flatnonzero((self.adata.obs["perturbation"] == label).to_numpy())
        return MatrixReader(self.adata, None)(rows)

    def log(self, label: str) -> NDArray:
        return log1p_cp10k(self.counts(label))


def log1p_cp10k(counts: NDArray) -> NDArray:
    return np.log1p(counts / counts.sum(axis=1, keepdims=True).clip(min=1) * 1e4)


def no_change(task: Task) -> Predictions:
    return dict.fromkeys(task.held_out, task.log("ctrl"))


def mean_of_singles(task: Task) -> Predictions:
    """The cells of both singles, as many of the one as of the other."""
    predictions = {}
    for label in task.held_out:
        a, b = (task.log(part) for part in label.split("+"))
        n = min(len(a), len(b))
        predictions[label] = np.concatenate([a[:n], b[:n]])
    return predictions


def additive(task: Task, scale: str) -> Predictions:
    """Control cells plus both mean changes, of counts per 10,000 or of their log1p."""
    value = task.log if scale == "log" else lambda label: np.expm1(task.log(label))
    control = value("ctrl")
    predictions = {}
    for label in task.held_out:
        change = sum(value(part).mean(axis=0) - control.mean(axis=0) for part in label.split("+"))
        moved = (control + change).clip(min=0)
        predictions[label] = moved if scale == "log" else np.log1p(moved)
    return predictions


def neuron_edit(task: Task) -> Predictions:
    """Edits control -> A applied to cells of B, and the reverse, as predict_combination does; each learnt once."""
    train = task.train.copy()
    train.X = log1p_cp10k(MatrixReader(train, None)(np.arange(train.n_obs)))
    scvi.settings.seed = task.seed
    NeuronEdit.setup_anndata(train, condition_key="perturbation")
    model = NeuronEdit(train)
    model.train(enable_progress_bar=False)
    singles = {part for label in task.held_out for part in label.split("+")}
    edits = {part: model.learn_edit("ctrl", part) for part in sorted(singles)}
    predictions = {}
    for label in task.held_out:
        a, b = label.split("+")
        predictions[label] = np.concatenate([model.apply_edit(edits[a], query=b), model.apply_edit(edits[b], query=a)])
    return predictions


def latent_model(task: Task, cls: type, keep_residual: bool = True) -> Predictions:
    """Control cells with the dosages of both perturbations."""
    train = task.train.copy()
    scvi.settings.seed = task.seed
    unique = {"combinations_as_unique": False} if cls is SVAEPlus else {}
    cls.setup_anndata(train, perturbation_key="perturbation", control="ctrl", **unique)
    model = cls(train, n_latent=task.n_latent, n_hidden=128, n_layers=2, n_particles=1)
    model.train(max_steps=task.steps, plan_kwargs={"lr": 3e-3}, enable_progress_bar=False)
    return {
        label: log1p_cp10k(model.predict_perturbation(label, keep_residual=keep_residual).X) for label in task.held_out
    }


def scvi_counterfactual(task: Task) -> Predictions:
    """scVI with the dosages as covariates of its decoder, control cells decoded with those of the double."""
    train = task.train.copy()
    names = sorted({part for label in train.obs["perturbation"] for part in label.split("+")} - {"ctrl"})
    parts = [set(label.split("+")) for label in train.obs["perturbation"]]
    for name in names:
        train.obs[name] = np.array([name in part for part in parts], dtype=np.float32)
    scvi.settings.seed = task.seed
    scvi.model.SCVI.setup_anndata(train, continuous_covariate_keys=names)
    model = scvi.model.SCVI(train, gene_likelihood="nb", n_latent=task.n_latent)
    epochs = max(1, round(task.steps * 512 / train.n_obs))
    model.train(max_epochs=epochs, batch_size=512, train_size=1.0, enable_progress_bar=False)
    predictions = {}
    for label in task.held_out:
        # a new copy each time: scvi-tools does not look at the covariates of an AnnData it knows again
        control = train[train.obs["perturbation"] == "ctrl"].copy()
        for name in names:
            control.obs[name] = np.float32(name in label.split("+"))
        predictions[label] = log1p_cp10k(model.posterior_predictive_sample(control).todense())
    return predictions


METHODS = {
    "no change": no_change,
    "mean of A and B": mean_of_singles,
    "additive in expression": partial(additive, scale="expression"),
    "additive in log space": partial(additive, scale="log"),
    "NeuronEdit": neuron_edit,
    "SAMS-VAE": partial(latent_model, cls=SAMSVAE),
    "CPA-VAE": partial(latent_model, cls=CPAVAE),
    "SVAE+ (shifts added)": partial(latent_model, cls=SVAEPlus),
    "conditional VAE": partial(latent_model, cls=ConditionalVAE),
    "scVI counterfactual": scvi_counterfactual,
}


def run(task: Task, methods: list[str]) -> Iterator[dict[str, float | str]]:
    """A row for each method and held-out double."""
    x = log1p_cp10k(MatrixReader(task.adata, None)(np.arange(task.adata.n_obs)))
    pca = PCA(min(30, *(n - 1 for n in x.shape)), random_state=0).fit(x)
    control, rng = task.log("ctrl"), np.random.default_rng(task.seed)
    halves = {label: np.array_split(rng.permutation(task.log(label)), 2) for label in task.held_out}
    for name in [*methods, CEILING]:
        start = time.perf_counter()
        ceiling = {label: half[1] for label, half in halves.items()}
        predictions = ceiling if name == CEILING else METHODS[name](task)
        seconds = time.perf_counter() - start
        for label in task.held_out:
            truth = halves[label][0] if name == CEILING else task.log(label)
            scores = prediction_scores(np.asarray(predictions[label]), truth, control, pca)
            yield {"method": name, "double": label, **{s: scores[s] for s in SCORES}, "seconds": seconds}


def read_tasks(path: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """One task for each double of a file whose parts are measured alone."""
    adata = read_h5ad(path)
    labels = adata.obs["condition"].astype(str).replace("control", "ctrl")
    adata.obs["perturbation"] = pd.Categorical(labels)
    known = set(labels)
    doubles = sorted(label for label in known if "+" in label and set(label.split("+")) <= known)
    yield path.stem, Task(adata, doubles, arguments.steps, 20, arguments.seed)


def simulated_tasks(arguments: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    for name, interaction in (("additive doubles", 0.0), ("doubles with interactions", arguments.interaction)):
        adata = simulate_combinations(interaction=interaction, random_state=arguments.seed)
        held_out = adata.obs.loc[adata.obs["split"] == "test", "perturbation"].astype(str)
        yield name, Task(adata, sorted(set(held_out)), arguments.steps, 20, arguments.seed)


def report(results: pd.DataFrame) -> None:
    by_method = results.groupby("method", sort=False)
    mean, error = by_method[SCORES].mean(), by_method[SCORES].sem()
    table = mean.map("{:.3f}".format) + " +- " + error.map("{:.3f}".format)
    table["seconds"] = by_method["seconds"].first().round(1)
    print(table.to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--interaction", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data and not arguments.data.exists():
        parser.error(f"{arguments.data} does not exist")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    results = []
    for name, task in read_tasks(arguments.data, arguments) if arguments.data else simulated_tasks(arguments):
        part = pd.DataFrame(run(task, arguments.methods))
        print(f"\n{name}: mean +- standard error over {len(task.held_out)} held-out doubles")
        report(part)
        results.append(part.assign(data=name, seed=arguments.seed))
    if arguments.json:
        write_json(pd.concat(results), arguments.json)


if __name__ == "__main__":
    main()
