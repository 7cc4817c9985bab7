"""Neurons drawn on their graph: mean activations, and edits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection
from scipy import sparse

from scvi_neuronedit.data import select_cells
from scvi_neuronedit.pl._common import check_column, finish, standardized

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from scvi_neuronedit import NeuronEdit
    from scvi_neuronedit.data import Selection
    from scvi_neuronedit.edit import Edit
    from scvi_neuronedit.nn import NeuronGraph


def neuron_map(
    adata: AnnData,
    groupby: str | None = None,
    *,
    key: str = "neurons",
    standardize: bool = True,
    n_columns: int = 4,
    show: bool = False,
    save: str | PathLike | None = None,
) -> Figure:
    """Mean activation of every neuron, drawn at its place in the graph, for each group of cells.

    Parameters
    ----------
    adata
        Cells whose neurons were written by ``model.get_neuron_graph(key_added=key)``.
    groupby
        Column of ``adata.obs``, such as cell type or condition: one map for each value. All cells together if ``None``.
    key
        Key of the neurons in ``obsm`` (behind ``X_``) and ``uns``.
    standardize
        Whether to show standard deviations from the neuron's mean over all cells, in place of activations. Ignored
        without ``groupby``.
    n_columns
        Number of maps in a row.
    show
        Whether to show the figure.
    save
        File to save the figure to.

    Returns
    -------
    The figure.
    """
    stored, z = _stored(adata, key)
    if groupby is None:
        values = {"all cells": z.mean(axis=0)}
    else:
        check_column(adata, "groupby", groupby)
        if standardize:
            z = standardized(z, z)
        groups = adata.obs.groupby(groupby, observed=True).indices
        values = {str(group): z[rows].mean(axis=0) for group, rows in groups.items()}
    label = "standard deviations" if standardize and groupby is not None else "activation"
    return _small_multiples(stored["adjacency"], stored["layout"], values, label, n_columns, show, save)


def edit_on_map(
    model: NeuronEdit,
    edit: Edit,
    adata: AnnData | None = None,
    query: Selection | None = None,
    *,
    graph: NeuronGraph | None = None,
    groupby: str | None = None,
    n_columns: int = 4,
    show: bool = False,
    save: str | PathLike | None = None,
) -> Figure:
    """An edit drawn on the neuron map: which neurons it moves in the query cells, and by how much.

    Without ``groupby`` three maps are drawn: the query before the edit and after it, in standard deviations from the
    mean of all cells, and the shift between the two. With it, one map of the shift for each group.

    Parameters
    ----------
    model
        Trained model.
    edit
        Learnt by it.
    adata
        AnnData that holds the query. The model's own if ``None``.
    query
        Cells to edit; see :meth:`~scvi_neuronedit.NeuronEdit.apply_edit`. With ``groupby`` a mapping, or ``None`` for all
        cells.
    graph
        The neurons; ``model.get_neuron_graph(adata)`` if ``None``.
    groupby
        Column of ``adata.obs``: one map of the shift for each value that query cells have.
    n_columns
        Number of maps in a row.
    show
        Whether to show the figure.
    save
        File to save the figure to.

    Returns
    -------
    The figure.
    """
    adata = model.adata if adata is None else adata
    graph = model.get_neuron_graph(adata) if graph is None else graph
    if groupby is None:
        z = model.get_activations(adata, graph.layer)
        shifts = model.get_neuron_shifts(edit, adata, query, graph.layer)
        values = {name: standardized(shifts[name].to_numpy(), z) for name in ("before", "after")}
        values["shift"] = shifts["shift_sd"].to_numpy()
    else:
        if query is not None and not hasattr(query, "items"):
            msg = f"query={query!r} with groupby={groupby!r}; it must be a mapping of obs columns, to which the group is added."
            raise TypeError(msg)
        groups = adata.obs[groupby].astype(str)
        if query:
            groups = groups[select_cells(adata, query, argument="query")]
        values = {}
        for group in np.unique(groups):
            cells = {**(query or {}), groupby: group}
            values[group] = model.get_neuron_shifts(edit, adata, cells, graph.layer)["shift_sd"].to_numpy()
    return _small_multiples(graph.adjacency, graph.layout, values, "standard deviations", n_columns, show, save)


def draw_neurons(
    adjacency: sparse.sparray | NDArray,
    layout: ArrayLike,
    values: ArrayLike,
    *,
    limit: float | None = None,
    cmap: str = "RdBu_r",
    ax: Axes | None = None,
) -> Axes:
    """One map: any value of each neuron, such as the column of a table, as the colour of its node.

    Parameters
    ----------
    adjacency
        Adjacency of shape ``[n_neurons, n_neurons]``.
    layout
        Positions of shape ``[n_neurons, 2]``.
    values
        A number for each neuron.
    limit
        Colours run from minus this to this; the largest absolute value if ``None``.
    cmap
        Colour map.
    ax
        Axes to draw on; new ones if ``None``.

    Returns
    -------
    The axes.
    """
    layout, values = np.asarray(layout), np.asarray(values, dtype=float)
    if values.shape != (len(layout),):
        msg = f"values of shape {values.shape} for {len(layout)} neurons; give one number for each."
        raise ValueError(msg)
    ax = plt.subplots(figsize=(3, 3), layout="constrained")[1] if ax is None else ax
    i, j = sparse.triu(sparse.coo_array(adjacency), 1).coords
    lengths = np.linalg.norm(layout[i] - layout[j], axis=1)
    drawn = lengths < 0.6 * max(np.ptp(layout, axis=0).max(), 1e-9) if len(layout) > 3 else lengths >= 0
    segments = np.stack([layout[i], layout[j]], axis=1)[drawn]  # a torus is drawn without the edges around it
    ax.add_collection(LineCollection(segments, colors="0.75", linewidths=0.8, zorder=0))
    limit = max(np.abs(values).max(), 1e-12) if limit is None else limit
    size = float(np.clip(3000 / len(values), 8, 150))
    ax.scatter(*layout.T, c=values, cmap=cmap, vmin=-limit, vmax=limit, s=size, edgecolors="0.4", linewidths=0.4)
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.1)
    ax.axis("off")
    return ax


def _small_multiples(
    adjacency: sparse.sparray,
    layout: NDArray,
    values: Mapping[str, NDArray],
    label: str,
    n_columns: int,
    show: bool,
    save: str | PathLike | None,
) -> Figure:
    """Maps side by side, on one scale of colours."""
    n_columns = min(n_columns, len(values))
    n_rows = -(-len(values) // n_columns)
    flat = np.ptp(layout[:, 1]) < 0.2 * np.ptp(layout[:, 0])
    size = (2.6 * n_columns + 0.8, (1.0 if flat else 2.6) * n_rows + 0.4)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, layout="constrained")
    limit = max(float(np.abs(np.concatenate(list(values.values()))).max()), 1e-12)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, of_neurons) in zip(axes.flat, values.items(), strict=False):
        draw_neurons(adjacency, layout, of_neurons, limit=limit, ax=ax)
        ax.set_title(name, fontsize=9)
    figure.colorbar(axes.flat[0].collections[1], ax=axes, label=label, shrink=0.8)
    finish(figure, show, save)
    return figure


def _stored(adata: AnnData, key: str) -> tuple[dict, NDArray]:
    if key not in adata.uns or f"X_{key}" not in adata.obsm:
        msg = f"key={key!r}: adata has no neurons of that name; call model.get_neuron_graph(key_added={key!r})."
        raise KeyError(msg)
    return adata.uns[key], np.asarray(adata.obsm[f"X_{key}"], dtype=float)
