"""Average treatment effects of data and predictions, and how well they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score

from scvi_neuronedit.data import MatrixReader, check_obs_column, listed, transform_for_effect, unknown_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray


def average_treatment_effect(
    adata: AnnData,
    perturbation_key: str,
    control: str,
    *,
    layer: str | None = None,
    method: Literal["mean", "perturbseq"] = "mean",
    perturbations: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Mean over cells with a perturbation minus mean over control cells.

    Works on measured cells and on those any model predicts: put both into one AnnData, or pass the measured control cells
    beside the predicted ones.

    Parameters
    ----------
    adata
        Cells, some of them controls.
    perturbation_key
        Column of ``adata.obs`` with the label of each cell.
    control
        Label of the control cells.
    layer
        Layer with the cells; ``X`` if ``None``.
    method
        ``"mean"``: of the values as they are. ``"perturbseq"``: of counts as ``log2(x + 1)`` of counts per 10,000.
    perturbations
        Labels. All but the control if ``None``.

    Returns
    -------
    A row for each perturbation, a column for each gene.

    Raises
    ------
    KeyError, ValueError
        A column, layer or label is missing, or ``method`` is unknown.
    """
    check_obs_column(adata, "perturbation_key", perturbation_key)
    labels = adata.obs[perturbation_key].astype(str).to_numpy()
    known = sorted(set(labels))
    if perturbations is None:
        perturbations = [label for label in known if label != control]
    for argument, label in (("control", control), *(("perturbation", label) for label in perturbations)):
        if label not in known:
            raise ValueError(unknown_name(argument, label, f"adata.obs[{perturbation_key!r}]", known))
    reader = MatrixReader(adata, layer)

    def mean(label: str) -> NDArray[np.float64]:
        return transform_for_effect(reader(np.flatnonzero(labels == label)), method).mean(axis=0, dtype=np.float64)

    baseline = mean(control)
    effects = [mean(label) - baseline for label in perturbations]
    return pd.DataFrame(np.reshape(effects, (-1, adata.n_vars)), index=list(perturbations), columns=adata.var_names)


def treatment_effect_scores(
    predicted: pd.DataFrame, observed: pd.DataFrame, n_top: Sequence[int] = (20, 50)
) -> pd.DataFrame:
    """Agreement of predicted with observed treatment effects, perturbation by perturbation.

    Parameters
    ----------
    predicted, observed
        Effects, a row for each perturbation and a column for each gene; those that both have are compared.
    n_top
        Numbers of genes, largest by absolute observed effect, that are also scored alone.

    Returns
    -------
    A row for each perturbation, with ``pearson`` and ``r2`` (coefficient of determination, of the predictions as they are)
    over all genes, and ``pearson_top20``, ``r2_top20``, ... NaN where an effect does not vary.
    """
    predicted, observed = _shared(predicted, observed)
    rows = {}
    for name in observed.index:
        p, o = predicted.loc[name].to_numpy(), observed.loc[name].to_numpy()
        order = np.argsort(-np.abs(o), kind="stable")
        scores = {"pearson": _pearson(p, o), "r2": _r2(p, o)}
        for n in n_top:
            top = order[:n]
            scores |= {f"pearson_top{n}": _pearson(p[top], o[top]), f"r2_top{n}": _r2(p[top], o[top])}
        rows[name] = scores
    return pd.DataFrame.from_dict(rows, orient="index")


def summarize_treatment_effects(
    predicted: pd.DataFrame,
    observed: pd.DataFrame,
    held_out: Collection[str] = (),
    n_top: Sequence[int] = (20, 50),
) -> pd.DataFrame:
    """Mean scores of perturbations seen in training and of those held out.

    Parameters
    ----------
    predicted, observed, n_top
        As for :func:`treatment_effect_scores`.
    held_out
        Perturbations, such as combinations, that were held out from training.

    Returns
    -------
    Rows ``"seen"`` and ``"held out"``, where there are such; the means of the scores of
    :func:`treatment_effect_scores`, ``pearson_pooled`` over all pairs of perturbation and gene (the published way, which
    large effects dominate), and ``n``, the number of perturbations.
    """
    predicted, observed = _shared(predicted, observed)
    scores = treatment_effect_scores(predicted, observed, n_top)
    is_held_out = scores.index.isin(list(held_out))
    rows = {}
    for name, chosen in (("seen", ~is_held_out), ("held out", is_held_out)):
        if chosen.any():
            pooled = _pearson(predicted[chosen].to_numpy().ravel(), observed[chosen].to_numpy().ravel())
            rows[name] = {**scores[chosen].mean(), "pearson_pooled": pooled, "n": int(chosen.sum())}
    return pd.DataFrame.from_dict(rows, orient="index")


def _shared(predicted: pd.DataFrame, observed: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and columns that both have, in the order of the observed."""
    for argument, table in (("predicted", predicted), ("observed", observed)):
        if not (table.index.is_unique and table.columns.is_unique):
            msg = f"{argument} has repeated rows or columns."
            raise ValueError(msg)
    rows = observed.index[observed.index.isin(predicted.index)]
    columns = observed.columns[observed.columns.isin(predicted.columns)]
    if not len(rows) or not len(columns):
        what = "perturbation" if not len(rows) else "gene"
        names = (predicted.index, observed.index) if not len(rows) else (predicted.columns, observed.columns)
        msg = f"predicted ({listed(names[0])}) and observed ({listed(names[1])}) share no {what}."
        raise ValueError(msg)
    return predicted.loc[rows, columns], observed.loc[rows, columns]


def _pearson(x: NDArray, y: NDArray) -> float:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _r2(predicted: NDArray, observed: NDArray) -> float:
    if len(observed) < 2 or np.ptp(observed) == 0:
        return float("nan")
    return float(r2_score(observed, predicted))
