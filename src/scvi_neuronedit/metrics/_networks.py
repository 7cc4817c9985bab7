"""How well an inferred regulatory network agrees with the true one, and what the prior had to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def network_scores(effects: ArrayLike, truth: ArrayLike, prior: ArrayLike | None = None) -> dict[str, float]:
    """Compare inferred effects with a known network.

    Balanced accuracy is high for every network that knows which genes are regulators and which are regulated at all:
    "each regulator acts on each regulated gene" is its own score. The other scores therefore look only at such pairs, the
    *block*, and, with a prior, only at those pairs the prior is wrong about.

    Parameters
    ----------
    effects
        Inferred effects of shape ``[n_genes, n_genes]``, row regulates column; every non-zero one is an edge.
    truth
        True effects of the same shape, with their signs.
    prior
        Prior of the same shape; non-zero where it has an edge.

    Returns
    -------
    ``balanced_accuracy``, ``recall`` and ``specificity`` of edges among all pairs; ``block_ap``, average precision of
    effects by size among the block; ``sign_accuracy`` of the true edges found. With a prior: ``missing_recall``, share of
    true edges missing from the prior that are edges; ``missing_chance``, share of pairs of the block neither in the truth
    nor in the prior that are edges; ``missing_auroc``, probability that one of the former has a larger effect than one of
    the latter; ``spurious_rejected``, share of the prior's wrong edges that are no edges. NaN where there is no such pair.
    """
    effects, truth = np.asarray(effects, dtype=float), np.asarray(truth)
    if effects.shape != truth.shape or (prior is not None and np.shape(prior) != truth.shape):
        shapes = [effects.shape, truth.shape] + ([] if prior is None else [np.shape(prior)])
        msg = f"effects, truth and prior must have one shape, but have {', '.join(map(str, shapes))}."
        raise ValueError(msg)
    is_true, is_edge = truth != 0, effects != 0
    if not is_true.any():
        msg = "truth has no edges."
        raise ValueError(msg)
    block = np.outer(is_true.any(axis=1), is_true.any(axis=0))
    recall, specificity = _share(is_edge, is_true), _share(~is_edge, ~is_true)
    found = is_true & is_edge
    scores = {
        "balanced_accuracy": (recall + specificity) / 2,
        "recall": recall,
        "specificity": specificity,
        "block_ap": average_precision_score(is_true[block], np.abs(effects[block])),
        "sign_accuracy": _share(np.sign(effects) == np.sign(truth), found),
    }
    if prior is None:
        return scores
    in_prior = np.asarray(prior) != 0
    missing, neither = is_true & ~in_prior, block & ~is_true & ~in_prior
    sizes = np.abs(np.concatenate([effects[missing], effects[neither]]))
    labels = np.repeat([1, 0], [missing.sum(), neither.sum()])
    return scores | {
        "missing_recall": _share(is_edge, missing),
        "missing_chance": _share(is_edge, neither),
        "missing_auroc": roc_auc_score(labels, sizes) if 0 < labels.sum() < len(labels) else float("nan"),
        "spurious_rejected": _share(~is_edge, in_prior & ~is_true),
    }


def _share(condition: np.ndarray, among: np.ndarray) -> float:
    return float(condition[among].mean()) if among.any() else float("nan")
