"""How well predicted cells match the cells that were held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scvi_neuronedit.edit import energy_distance, pearson_delta

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.decomposition import PCA


def rank_differential_features(control: NDArray, truth: NDArray) -> NDArray[np.intp]:
    """Rank features by how strongly they differ between two populations.

    Parameters
    ----------
    control, truth
        Cells of shapes ``[n_control, n_features]`` and ``[n_truth, n_features]``.

    Returns
    -------
    Positions of the features, by decreasing absolute value of Welch's t.
    """
    difference = truth.mean(axis=0) - control.mean(axis=0)
    variance = truth.var(axis=0, ddof=1) / len(truth) + control.var(axis=0, ddof=1) / len(control)
    t = np.abs(difference) / np.sqrt(np.maximum(variance, 1e-12))
    return np.argsort(-t, kind="stable")


def prediction_scores(
    predicted: NDArray, truth: NDArray, control: NDArray, pca: PCA, n_top: int = 100
) -> dict[str, float]:
    """Scores of a predicted population against the true one.

    Parameters
    ----------
    predicted
        Predicted cells of shape ``[n_control, n_features]``.
    truth
        Cells measured in the condition that was predicted.
    control
        The same cells as ``predicted``, before the change.
    pca
        Principal components in which ``edist`` is taken, fitted on all cells.
    n_top
        Number of differential features; see :func:`rank_differential_features`.

    Returns
    -------
    ``edist``
        Energy distance of prediction and truth in the principal components, divided by that of the unchanged control.
    ``egene``
        Energy distance in the features themselves, in their units.
    ``egene_ratio``
        ``egene`` divided by that of the unchanged control.
    ``r2_deg``
        Squared Pearson correlation of the mean profiles over the differential features.
    ``pearson_delta``, ``pearson_delta_deg``
        Correlation of the predicted with the true change of the mean, over all and over the differential features.
    ``nmse``
        Squared error of the predicted mean, divided by that of the unchanged control.
    ``variance``
        Pearson correlation of the features' variances.
    ``direction``
        Share of the differential features whose mean moves in the true direction.
    """
    top = rank_differential_features(control, truth)[:n_top]
    components = {name: pca.transform(x) for name, x in (("p", predicted), ("t", truth), ("c", control))}
    means = {name: x.mean(axis=0) for name, x in (("p", predicted), ("t", truth), ("c", control))}
    egene = energy_distance(predicted, truth)
    return {
        "edist": energy_distance(components["p"], components["t"]) / energy_distance(components["c"], components["t"]),
        "egene": egene,
        "egene_ratio": egene / energy_distance(control, truth),
        "r2_deg": _pearson(means["p"][top], means["t"][top]) ** 2,
        "pearson_delta": pearson_delta(predicted, truth, control),
        "pearson_delta_deg": pearson_delta(predicted[:, top], truth[:, top], control[:, top]),
        "nmse": float(((means["p"] - means["t"]) ** 2).sum() / ((means["c"] - means["t"]) ** 2).sum()),
        "variance": _pearson(predicted.var(axis=0), truth.var(axis=0)),
        "direction": float(np.mean((np.sign(means["p"] - means["c"]) == np.sign(means["t"] - means["c"]))[top])),
    }


def _pearson(x: NDArray, y: NDArray) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
