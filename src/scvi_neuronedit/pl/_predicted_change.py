"""Predicted against true change of every feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from scvi_neuronedit.data import MatrixReader, describe_selection, select_cells
from scvi_neuronedit.metrics import pearson_delta
from scvi_neuronedit.pl._common import finish

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes

    from scvi_neuronedit.data import Selection


def predicted_change(
    adata: AnnData,
    layer: str,
    query: Selection,
    truth: Selection,
    *,
    base_layer: str | None = None,
    condition_key: str | None = None,
    n_names: int = 10,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool = False,
    save: str | PathLike | None = None,
) -> Axes:
    """Scatter plot of the predicted against the true change of every feature's mean.

    Parameters
    ----------
    adata
        Cells with a predicted layer.
    layer
        The predicted layer.
    query
        The cells that were predicted.
    truth
        Cells measured in the condition that was predicted.
    base_layer
        Layer the prediction started from; ``X`` if ``None``.
    condition_key
        Column of ``adata.obs`` with the condition, where ``query`` or ``truth`` is a condition name.
    n_names
        Number of features to name: those that truly change most.
    title
        Title; the query if ``None``.
    ax
        Axes to draw on; new ones if ``None``.
    show
        Whether to show the figure.
    save
        File to save the figure to.

    Returns
    -------
    The axes.
    """
    rows = {
        argument: np.flatnonzero(select_cells(adata, selection, argument=argument, condition_key=condition_key))
        for argument, selection in (("query", query), ("truth", truth))
    }
    base, predicted = MatrixReader(adata, base_layer), MatrixReader(adata, layer)(rows["query"])
    control, true = base(rows["query"]), base(rows["truth"])
    x, y = true.mean(axis=0) - control.mean(axis=0), predicted.mean(axis=0) - control.mean(axis=0)

    ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")[1] if ax is None else ax
    ax.axline((0, 0), slope=1, color="0.7", linewidth=0.8, zorder=0)
    ax.scatter(x, y, s=6, linewidths=0)
    for j in np.argsort(-np.abs(x))[:n_names]:
        ax.annotate(adata.var_names[j], (x[j], y[j]), xytext=(3, 3), textcoords="offset points", fontsize=7)
    ax.set_xlabel("true change of the mean")
    ax.set_ylabel("predicted change of the mean")
    ax.set_title(describe_selection(query) if title is None else title)
    correlation = pearson_delta(predicted, true, control)
    ax.text(0.03, 0.97, f"Pearson r = {correlation:.2f}", transform=ax.transAxes, va="top")
    finish(ax.figure, show, save)
    return ax
