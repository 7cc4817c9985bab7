"""Choose among ways to learn an edit by leaving out groups of cells whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.decomposition import PCA

from scvi_neuronedit.edit._scores import energy_distance, pearson_delta

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

MIN_GROUP_CELLS = 20
_N_COMPONENTS = 30


@dataclass(frozen=True)
class Candidate:
    """One way to learn an edit.

    Parameters
    ----------
    method
        Name of an activation map, or of one for each layer (``"group_gaussian, group"``); ``"none"`` leaves cells as they are.
    layers
        Layers that are edited.
    strength
        Share of the displacement to apply.
    """

    method: str
    layers: tuple[str, ...] = ("code",)
    strength: float = 1.0


_NAMES = ["method", "layers", "strength"]
NO_EDIT = Candidate("none", ())


def usable_groups(source_groups: NDArray, target_groups: NDArray, n_groups: int = 10) -> NDArray:
    """Groups with at least 20 cells in source and in target, the largest of many.

    Parameters
    ----------
    source_groups, target_groups
        Group of every cell.
    n_groups
        Number of groups to return at most.
    """
    groups, n_source = np.unique(source_groups, return_counts=True)
    n_cells = np.minimum(n_source, [(target_groups == group).sum() for group in groups])
    largest = np.argsort(-n_cells, kind="stable")[:n_groups]
    return np.sort(groups[largest[n_cells[largest] >= MIN_GROUP_CELLS]])


def sample_groups(groups: NDArray, kept: NDArray, n_cells: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Positions of at most ``n_cells`` random cells of each group kept, increasing.

    Parameters
    ----------
    groups
        Group of every cell.
    kept
        The groups to sample from.
    n_cells
        Number of cells of each.
    rng
        Source of the samples.
    """
    positions = [np.flatnonzero(groups == group) for group in kept]
    return np.sort(
        np.concatenate([p if len(p) <= n_cells else rng.choice(p, n_cells, replace=False) for p in positions])
    )


def random_folds(n_source: int, n_target: int, n_folds: int, random_state: int) -> tuple[NDArray, NDArray]:
    """A random fold for every source and every target cell, all folds of the same size.

    Parameters
    ----------
    n_source, n_target
        Number of cells.
    n_folds
        Number of folds.
    random_state
        Seed.
    """
    rng = np.random.default_rng(random_state)
    return tuple(rng.permutation(np.arange(n_cells) % n_folds) for n_cells in (n_source, n_target))


def leave_group_out(
    control: NDArray,
    truth: NDArray,
    source_groups: NDArray,
    target_groups: NDArray,
    predict: Callable[[Candidate, NDArray, NDArray], NDArray],
    candidates: Sequence[Candidate],
) -> pd.DataFrame:
    """Score every candidate on groups whose target cells it has not seen.

    The score of a group is the mean of two parts: the energy distance of prediction and truth in 30 principal
    components, as a ratio to that of unchanged cells, and one minus the correlation of predicted and true change. The ratio
    is to the mean over groups: a group that does not respond, and where any edit is infinitely worse than none, must not
    decide alone. So the mean score is 1 for unchanged cells and 0 for a perfect prediction.

    Parameters
    ----------
    control, truth
        Expression of source and target cells, of shapes ``[n_source, n_features]`` and ``[n_target, n_features]``.
    source_groups, target_groups
        Group of every cell; the same groups on both sides.
    predict
        Function of a candidate and of two masks, the source and the target cells of the group left out. Returns the
        prediction of these source cells, of shape ``[n_left_out, n_features]``.
    candidates
        What to score.

    Returns
    -------
    A row for each candidate and group: ``method``, ``layers``, ``strength``, ``group``, ``score``, ``edist`` (the
    ratio) and ``pearson_delta``.
    """
    both = np.concatenate([control, truth])
    n_components = max(1, min(_N_COMPONENTS, *(n - 1 for n in both.shape)))
    pca = PCA(n_components, svd_solver="randomized", random_state=0).fit(both)
    groups = [(name, source_groups == name, target_groups == name) for name in np.unique(source_groups)]
    in_components = pca.transform(control), pca.transform(truth)
    unchanged = np.mean([energy_distance(in_components[0][a], in_components[1][b]) for _, a, b in groups])
    rows = []
    for group, in_source, in_target in groups:
        x, y = control[in_source], truth[in_target]
        for candidate in candidates:
            predicted = x if candidate == NO_EDIT else predict(candidate, in_source, in_target)
            correlation = np.nan_to_num(pearson_delta(predicted, y, x))
            ratio = energy_distance(pca.transform(predicted), pca.transform(y)) / unchanged
            rows.append(
                {
                    "method": candidate.method,
                    "layers": ", ".join(candidate.layers),
                    "strength": candidate.strength,
                    "group": group,
                    "score": (ratio + 1 - correlation) / 2,
                    "edist": ratio,
                    "pearson_delta": correlation,
                }
            )
    return pd.DataFrame(rows)


def summarize_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over groups of every candidate's scores, best first, and the standard error of the mean score.

    Parameters
    ----------
    scores
        As :func:`leave_group_out` returns them.
    """
    by_candidate = scores.drop(columns="group").groupby(_NAMES, sort=False)
    table = by_candidate.mean().assign(score_se=by_candidate["score"].sem()).reset_index()
    return table.sort_values("score", kind="stable", ignore_index=True)


def choose_candidate(scores: pd.DataFrame, preferred: Candidate) -> Candidate:
    """The candidate with the best mean score, unless the difference may be noise.

    The preferred candidate gives way only to one whose score is significantly better: by more standard errors of their
    difference over groups than the 97.5 % quantile of Student's t, of which there are many where groups are few. And cells
    are left as they are unless editing improves the score by two standard errors.

    Parameters
    ----------
    scores
        As :func:`leave_group_out` returns them.
    preferred
        One of the candidates scored.
    """
    table = scores.pivot(index=_NAMES, columns="group", values="score")
    best = table.mean(axis=1).idxmin()
    name = (preferred.method, ", ".join(preferred.layers), preferred.strength)
    if name in table.index and _gain(table.loc[name], table.loc[best], stats.t.ppf(0.975, table.shape[1] - 1)) <= 0:
        best = name
    if _gain(pd.Series(1.0, table.columns), table.loc[best], 2) <= 0:
        return NO_EDIT
    method, layers, strength = best
    return Candidate(method, tuple(layers.split(", ")), float(strength))


def _gain(reference: pd.Series, other: pd.Series, n_errors: float) -> float:
    """By how much the other scores better, less some standard errors."""
    difference = reference - other
    return difference.mean() - n_errors * difference.sem()
