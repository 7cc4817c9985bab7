"""How well the source cells an edit was learnt on speak for other cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNSUPPORTED = 0.05
_N_NEIGHBORS = 10


def neighbor_support(cells: NDArray, reference: NDArray) -> NDArray[np.float64]:
    """Share of reference cells that lie at least as far from the other reference cells as a cell does.

    A cell's distance is the mean Euclidean distance to its 10 nearest reference cells. Cells within the bulk of the
    reference have a support around 0.5, cells farther out than every reference cell a support of 0.

    Parameters
    ----------
    cells
        Cells of shape ``[n_cells, n_neurons]``.
    reference
        Cells of shape ``[n_reference, n_neurons]``, at least two.

    Returns
    -------
    Array of shape ``[n_cells]``, between 0 and 1.
    """
    neighbors = NearestNeighbors(n_neighbors=min(_N_NEIGHBORS, len(reference) - 1)).fit(reference)
    own = np.sort(neighbors.kneighbors()[0].mean(axis=1))  # without the cell itself
    distance = neighbors.kneighbors(cells)[0].mean(axis=1)
    return 1 - np.searchsorted(own, distance, side="left") / len(own)
