"""How well masks are recovered, up to the order of the latent variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import average_precision_score, precision_score, recall_score

if TYPE_CHECKING:
    from numpy.typing import NDArray


def match_latents(inclusion: NDArray, truth: NDArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair recovered with true latent variables so that the sum of their correlations is largest.

    Parameters
    ----------
    inclusion
        Inclusion probabilities of shape ``[n_perturbations, n_latent]``.
    truth
        True masks of shape ``[n_perturbations, n_true_latent]``.

    Returns
    -------
    Positions of the recovered and of the true latent variables, as many as the smaller number of both.
    """

    def standardize(x: NDArray) -> NDArray:
        x = np.asarray(x, dtype=float)
        x = x - x.mean(axis=0)
        return x / np.maximum(np.linalg.norm(x, axis=0), 1e-12)

    return linear_sum_assignment(-standardize(inclusion).T @ standardize(truth))


def mask_recovery(inclusion: NDArray, truth: NDArray, threshold: float = 0.5) -> dict[str, float]:
    """Scores of recovered masks against true ones, over latent variables matched by :func:`match_latents`.

    Parameters
    ----------
    inclusion
        Inclusion probabilities of shape ``[n_perturbations, n_latent]``.
    truth
        True masks of shape ``[n_perturbations, n_true_latent]``, the perturbations in the same order. True latent variables
        that no perturbation shifts are left out.
    threshold
        Inclusion probability from which a mask counts as 1.

    Returns
    -------
    ``average_precision``
        Area under the precision-recall curve over all pairs of perturbation and matched latent variable. True latents that
        lack a match count as never recovered.
    ``precision``, ``recall``, ``f1``
        At the threshold.
    """
    inclusion, truth = np.asarray(inclusion, dtype=float), np.asarray(truth, dtype=bool)
    if inclusion.ndim != 2 or truth.ndim != 2 or len(inclusion) != len(truth):
        msg = f"inclusion has shape {inclusion.shape}, truth {truth.shape}; both must have a row for each perturbation."
        raise ValueError(msg)
    if not truth.any():
        msg = "truth holds no shift at all."
        raise ValueError(msg)
    truth = truth[:, truth.any(axis=0)]
    recovered, true = match_latents(inclusion, truth)
    matched = np.zeros(truth.shape)
    matched[:, true] = inclusion[:, recovered]
    score, label = matched.ravel(), truth.ravel()
    precision = float(precision_score(label, score > threshold, zero_division=0))
    recall = float(recall_score(label, score > threshold))
    return {
        "average_precision": float(average_precision_score(label, score)),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }
