"""Heat maps of neurons: over cells, and of their genes; and the price of structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from scvi_neuronedit.pl._common import check_column, finish, standardized

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from scvi_neuronedit.nn import NeuronGraph


def neuron_heatmap(
    adata: AnnData,
    graph: NeuronGraph,
    groupby: str,
    *,
    sort_by: str | None = None,
    key: str = "neurons",
    n_cells: int = 1000,
    random_state: int = 0,
    ax: Axes | None = None,
    show: bool = False,
    save: str | PathLike | None = None,
) -> Axes:
    """Activations of cells by group, neurons in the order of their graph.

    Parameters
    ----------
    adata
        Cells whose neurons were written by ``model.get_neuron_graph(key_added=key)``.
    graph
        What that returned.
    groupby
        Column of ``adata.obs`` that cells are grouped by.
    sort_by
        Numerical column of ``adata.obs``, such as pseudotime, that cells are sorted by within a group.
    key
        Key of the neurons in ``obsm`` (behind ``X_``).
    n_cells
        Number of cells to draw at most; a random sample of more.
    random_state
        Seed of the sample.
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
    for argument, column in (("groupby", groupby), ("sort_by", sort_by)):
        check_column(adata, argument, column)
    rng = np.random.default_rng(random_state)
    rows = rng.permutation(adata.n_obs)[:n_cells]
    groups = adata.obs[groupby].astype(str).to_numpy()[rows]
    within = np.zeros(len(rows)) if sort_by is None else adata.obs[sort_by].to_numpy(float)[rows]
    order = np.lexsort((within, groups))
    rows, groups = rows[order], groups[order]
    z = np.asarray(adata.obsm[f"X_{key}"])
    z = standardized(z[rows], z)[:, graph.order]

    ax = plt.subplots(figsize=(5, 5), layout="constrained")[1] if ax is None else ax
    image = ax.imshow(z, aspect="auto", cmap="RdBu_r", vmin=-2.5, vmax=2.5, interpolation="nearest")
    names, starts, counts = np.unique(groups, return_index=True, return_counts=True)
    ax.set_yticks(starts + counts / 2 - 0.5, names)
    for start in starts[1:]:
        ax.axhline(start - 0.5, color="k", linewidth=0.5)
    for border in np.flatnonzero(np.diff(graph.modules[graph.order])):
        ax.axvline(border + 0.5, color="k", linewidth=0.5)
    ax.set_xticks([])
    ax.set_xlabel(f"neurons of {graph.layer} in graph order, modules parted by lines")
    ax.figure.colorbar(image, ax=ax, label="standard deviations", shrink=0.6)
    finish(ax.figure, show, save)
    return ax


def neuron_programs(
    programs: pd.DataFrame,
    *,
    level: str = "module",
    value: str = "correlation",
    n_genes: int = 5,
    ax: Axes | None = None,
    show: bool = False,
    save: str | PathLike | None = None,
) -> Axes:
    """The first genes of every program, and what they have to do with the other programs.

    Parameters
    ----------
    programs
        As :meth:`~scvi_neuronedit.NeuronEdit.get_neuron_modules` returns them, for all genes.
    level
        ``"module"`` or ``"neuron"``.
    value
        ``"correlation"`` or ``"jacobian"``.
    n_genes
        Number of genes to show of each program.
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
    table = programs[programs["level"] == level]
    if table.empty:
        msg = f"level={level!r} is not among the programs ({', '.join(programs['level'].unique())})."
        raise ValueError(msg)
    genes = table.loc[table["rank"] <= n_genes, "gene"].unique()
    matrix = table.pivot(index="gene", columns="number", values=value).loc[genes]
    size = (0.35 * matrix.shape[1] + 2.5, 0.16 * len(genes) + 1.2)
    ax = plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
    limit = float(np.nanmax(np.abs(matrix.to_numpy())))
    image = ax.imshow(matrix, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_yticks(range(len(genes)), genes, fontsize=7)
    ax.set_xticks(range(matrix.shape[1]), matrix.columns, fontsize=7)
    ax.set_xlabel(level)
    ax.figure.colorbar(image, ax=ax, label=value, shrink=0.6)
    finish(ax.figure, show, save)
    return ax


def loss_against_weight(
    weights: ArrayLike,
    losses: ArrayLike,
    structure: ArrayLike | None = None,
    *,
    structure_label: str = "Moran's I",
    ax: Axes | None = None,
    show: bool = False,
    save: str | PathLike | None = None,
) -> Axes:
    """The price of structure: held-out loss, and a measure of structure, against the weight of the penalty.

    Parameters
    ----------
    weights
        Weights, 0 for the model without penalty.
    losses
        Held-out loss at each weight: one for each seed, of shape ``[n_weights]`` or ``[n_weights, n_seeds]``.
    structure
        A measure of structure, in the same shape; drawn on an axis of its own.
    structure_label
        What it is.
    ax
        Axes to draw on; new ones if ``None``.
    show
        Whether to show the figure.
    save
        File to save the figure to.

    Returns
    -------
    The axes of the loss.
    """
    weights = np.asarray(weights, dtype=float)
    order = np.argsort(weights)
    ax = plt.subplots(figsize=(4.5, 3.2), layout="constrained")[1] if ax is None else ax
    axes, values, colors = [ax], [losses], ["C0"]
    if structure is not None:
        axes, values, colors = [ax, ax.twinx()], [losses, structure], ["C0", "C1"]
    for each, of_weights, color in zip(axes, values, colors, strict=True):
        matrix = np.asarray(of_weights, dtype=float).reshape(len(weights), -1)[order]
        each.plot(weights[order], matrix.mean(axis=1), "o-", color=color, markersize=4)
        each.fill_between(weights[order], matrix.min(axis=1), matrix.max(axis=1), color=color, alpha=0.2)
        each.tick_params(axis="y", colors=color)
    positive = weights[weights > 0]
    ax.set_xscale("symlog", linthresh=positive.min() if len(positive) else 1)
    ax.set_xlabel("weight of the penalty")
    ax.set_ylabel("held-out loss", color="C0")
    if structure is not None:
        axes[1].set_ylabel(structure_label, color="C1")
    finish(ax.figure, show, save)
    return ax
