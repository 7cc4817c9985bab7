"""Graphs that neurons are placed on: named ones of fixed shape, or any adjacency."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

GRAPHS = ("path", "ring", "grid", "torus", "paths", "rings", "cliques", "tree", "wishbone")


def named_graph(
    name: str, n_neurons: int, *, n_groups: int | None = None, shape: tuple[int, int] | None = None
) -> sparse.csr_array:
    """Adjacency of a named graph with unit weights.

    Parameters
    ----------
    name
        ``"path"`` or ``"ring"``; ``"grid"`` or ``"torus"``, two-dimensional, numbered row by row; ``"paths"``, ``"rings"``
        or ``"cliques"``, separate groups of neighbouring numbers (clusters); ``"tree"``, binary, numbered level by level;
        ``"wishbone"``, a stem that parts into two branches, numbered stem, first branch, second branch.
    n_neurons
        Number of nodes.
    n_groups
        Number of groups of ``"paths"``, ``"rings"`` and ``"cliques"``; about the square root of ``n_neurons`` if ``None``.
        Where it does not divide ``n_neurons``, the first groups have one neuron more.
    shape
        Rows and columns of ``"grid"`` and ``"torus"``. If ``None``: the most square ones there are.

    Returns
    -------
    Symmetric adjacency of shape ``[n_neurons, n_neurons]`` with a zero diagonal.
    """
    if name not in GRAPHS:
        msg = f"graph {name!r} is not one of {', '.join(GRAPHS)}."
        raise ValueError(msg)
    if shape is not None and (name not in ("grid", "torus") or len(shape) != 2 or shape[0] * shape[1] != n_neurons):
        msg = (
            f"shape={shape} does not hold the {n_neurons} neurons of a {name!r}; only 'grid' and 'torus' have a shape."
        )
        raise ValueError(msg)
    if n_groups is not None and (name not in ("paths", "rings", "cliques") or not 1 <= n_groups <= n_neurons):
        msg = (
            f"n_groups={n_groups} for a {name!r} of {n_neurons} neurons; 'paths', 'rings' and 'cliques' have between 1 and "
            "as many groups as neurons."
        )
        raise ValueError(msg)
    if name in ("grid", "torus"):
        graph = nx.grid_2d_graph(*(shape or most_square(n_neurons)), periodic=name == "torus")
    elif name in ("paths", "rings", "cliques"):
        make = {"paths": nx.path_graph, "rings": nx.cycle_graph, "cliques": nx.complete_graph}[name]
        groups = np.array_split(np.arange(n_neurons), n_groups or isqrt(n_neurons))
        graph = nx.disjoint_union_all([make(len(group)) for group in groups])
    elif name == "wishbone":
        graph = _wishbone(n_neurons)
    else:
        make = {"path": nx.path_graph, "ring": nx.cycle_graph, "tree": lambda n: nx.full_rary_tree(2, n)}[name]
        graph = make(n_neurons)
    adjacency = sparse.csr_array(nx.to_scipy_sparse_array(graph, dtype=np.float64))
    adjacency.setdiag(0)  # a ring of one is a loop
    adjacency.eliminate_zeros()
    return adjacency


def check_adjacency(adjacency: ArrayLike | sparse.sparray, n_neurons: int) -> sparse.csr_array:
    """Check that a matrix is the adjacency of an undirected graph of so many neurons.

    Parameters
    ----------
    adjacency
        Square, symmetric matrix of weights that are finite and not negative; its diagonal is ignored. Dense or sparse.
    n_neurons
        Number of neurons of the layer.

    Returns
    -------
    The adjacency with a zero diagonal.
    """
    adjacency = sparse.csr_array(adjacency, dtype=np.float64)
    if adjacency.shape != (n_neurons, n_neurons):
        kind = "is not square" if len(set(adjacency.shape)) > 1 else "is of another size than the layer"
        msg = f"adjacency of shape {adjacency.shape} {kind}; the layer has {n_neurons} neurons, so ({n_neurons}, {n_neurons})."
        raise ValueError(msg)
    if not np.isfinite(adjacency.data).all():
        msg = "adjacency holds NaN or infinite weights."
        raise ValueError(msg)
    if (adjacency.data < 0).any():
        msg = f"adjacency holds negative weights (such as {adjacency.data.min():g}); weights are at least 0."
        raise ValueError(msg)
    difference = abs(adjacency - adjacency.T)
    if difference.nnz and difference.max() > 1e-8 * adjacency.max():
        i, j = (int(k[np.argmax(difference.data)]) for k in difference.tocoo().coords)
        msg = (
            f"adjacency is not symmetric: entry ({i}, {j}) is {adjacency[i, j]:g}, ({j}, {i}) is {adjacency[j, i]:g}; "
            "pass (A + A.T) / 2."
        )
        raise ValueError(msg)
    adjacency = adjacency.copy()
    adjacency.setdiag(0)
    adjacency.eliminate_zeros()
    return adjacency


def graph_layout(
    adjacency: sparse.sparray, name: str | None = None, *, shape: tuple[int, int] | None = None, random_state: int = 0
) -> NDArray[np.float64]:
    """Positions at which to draw the neurons.

    Parameters
    ----------
    adjacency
        Adjacency of shape ``[n_neurons, n_neurons]``.
    name
        Name of the graph, if it has one: lines, circles and lattices are drawn as such. Others are laid out by force.
    shape
        Rows and columns of a lattice.
    random_state
        Seed of the layout by force.

    Returns
    -------
    Array of shape ``[n_neurons, 2]``.
    """
    n_neurons = adjacency.shape[0]
    numbers = np.arange(n_neurons)
    if name == "path":
        return np.column_stack([numbers, np.zeros(n_neurons)]).astype(float)
    if name == "ring":
        angle = 2 * np.pi * numbers / n_neurons
        return np.column_stack([np.cos(angle), np.sin(angle)])
    if name in ("grid", "torus"):
        row, column = np.divmod(numbers, (shape or most_square(n_neurons))[1])
        return np.column_stack([column, -row]).astype(float)
    graph = nx.from_scipy_sparse_array(adjacency)
    parts = [sorted(part) for part in nx.connected_components(graph)]
    columns = int(np.ceil(np.sqrt(len(parts))))
    layout = np.zeros((n_neurons, 2))
    for k, part in enumerate(sorted(parts, key=len, reverse=True)):  # each component in a cell of its own
        component = graph.subgraph(part)
        start = nx.circular_layout(component)
        # distances in the graph are the plainest picture of it, but take cubic time
        drawn = nx.kamada_kawai_layout(component, pos=start, weight=None) if 2 < len(part) <= 200 else start
        if len(part) > 200:
            drawn = nx.spring_layout(component, seed=random_state, weight=None)
        scale = 0.9 * np.sqrt(len(part) / len(max(parts, key=len)))
        layout[part] = scale * np.array([drawn[node] for node in part]) + 2.2 * np.array([k % columns, -(k // columns)])
    return layout


def most_square(n_neurons: int) -> tuple[int, int]:
    """Rows and columns of the lattice of so many neurons that is closest to a square, rows at most as many as columns.

    Parameters
    ----------
    n_neurons
        Number of neurons.
    """
    rows = next(k for k in range(isqrt(n_neurons), 0, -1) if n_neurons % k == 0)
    return rows, n_neurons // rows


def _wishbone(n_neurons: int) -> nx.Graph:
    stem, first, _ = (len(part) for part in np.array_split(np.arange(n_neurons), 3))
    graph = nx.path_graph(n_neurons)
    if n_neurons > stem + first > stem > 0:  # the second branch leaves the stem, not the end of the first
        graph.remove_edge(stem + first - 1, stem + first)
        graph.add_edge(stem - 1, stem + first)
    return graph
