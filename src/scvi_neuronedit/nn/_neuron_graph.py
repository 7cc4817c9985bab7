"""A graph of neurons with all that is needed to draw and read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from scipy import sparse


@dataclass(frozen=True)
class NeuronGraph:
    """The neurons of a layer as a graph.

    Parameters
    ----------
    layer
        Name of the layer.
    graph
        ``"grid"``, ``"learned"``, ...: what was penalised while training; ``"learned afterwards"`` if nothing was.
    adjacency
        Symmetric adjacency of shape ``[n_neurons, n_neurons]``.
    layout
        Positions of the neurons, of shape ``[n_neurons, 2]``.
    modules
        Number of each neuron's module, of shape ``[n_neurons]``; see :func:`~scvi_neuronedit.nn.graph_modules`.
    history
        How the graph came about: a row for each time it was built.
    """

    layer: str
    graph: str
    adjacency: sparse.csr_array
    layout: NDArray[np.float64]
    modules: NDArray[np.intp]
    history: pd.DataFrame

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return len(self.modules)

    @property
    def n_modules(self) -> int:
        """Number of modules."""
        return int(self.modules.max()) + 1

    @property
    def n_components(self) -> int:
        """Number of connected components."""
        return int(connected_components(self.adjacency, directed=False)[0])

    @property
    def order(self) -> NDArray[np.intp]:
        """Neurons module by module, and within a module as along the graph: by the Fiedler vector of the module."""
        order = []
        for number in range(self.n_modules):
            members = np.flatnonzero(self.modules == number)
            part = self.adjacency[members][:, members].toarray()
            _, vectors = np.linalg.eigh(np.diag(part.sum(axis=1)) - part)
            order.append(members[np.argsort(vectors[:, min(1, len(members) - 1)], kind="stable")])
        return np.concatenate(order)

    def __repr__(self) -> str:
        return (
            f"NeuronGraph of layer {self.layer!r} ({self.graph}): {self.n_neurons} neurons, {self.adjacency.nnz // 2} "
            f"edges, {self.n_components} components, {self.n_modules} modules"
        )
