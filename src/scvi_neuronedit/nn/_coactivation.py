"""The graph of neurons that fire together, learned from their activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import networkx as nx
import numpy as np
from scipy import sparse
from scipy.spatial.distance import pdist, squareform

if TYPE_CHECKING:
    from numpy.typing import NDArray

KERNELS = ("knn", "gaussian", "adaptive")
_SMALLEST_WEIGHT = 0.1


def coactivation_graph(
    activations: NDArray,
    kernel: Literal["knn", "gaussian", "adaptive"] = "knn",
    n_neighbors: int = 5,
    *,
    standardize: bool = True,
    min_correlation: float = -1.0,
) -> sparse.csr_array:
    r"""Graph of the neurons, weighted by how alike their activations are over cells.

    A neuron's features are its activations :math:`f_i` over the cells; :math:`d_{ij}` is the root mean square of
    :math:`f_i - f_j`, so that it does not depend on the number of cells.

    - ``"knn"``: 1 to each of the ``n_neighbors`` nearest neurons, then :math:`(A + A^\top) / 2`.
    - ``"gaussian"``: :math:`\exp(-d_{ij}^2 / 2\sigma^2)`, with :math:`\sigma` the median distance to the
      ``n_neighbors``-th neuron.
    - ``"adaptive"``: :math:`\frac12 \exp(-d_{ij}^2 / \sigma_i^2) + \frac12 \exp(-d_{ij}^2 / \sigma_j^2)`, with
      :math:`\sigma_i` the distance of neuron i to its ``n_neighbors``-th neighbour.

    Weights below 0.1 of the last two are 0. Tong et al., IDA 2020, arXiv 1810.00424.

    Parameters
    ----------
    activations
        Activations of shape ``[n_cells, n_neurons]``.
    kernel
        See above.
    n_neighbors
        Number of neighbours; at most as many as there are other neurons are used.
    standardize
        Whether activations are centred and divided by their standard deviation, neuron by neuron, so that distance stands
        for correlation. Neurons that are the same in all cells then have no edges.
    min_correlation
        Neurons whose correlation is not above this are not joined, even if they are nearest neighbours: a group of at most
        ``n_neighbors`` alike neurons is else tied to others that are not. -1 joins all. Only of standardised activations.

    Returns
    -------
    Symmetric adjacency of shape ``[n_neurons, n_neurons]`` with a zero diagonal.
    """
    if kernel not in KERNELS:
        msg = f"kernel={kernel!r} is not one of {', '.join(KERNELS)}."
        raise ValueError(msg)
    if not -1 <= min_correlation < 1:
        msg = f"min_correlation={min_correlation}; it must lie between -1 and 1."
        raise ValueError(msg)
    if n_neighbors < 1:
        msg = f"n_neighbors={n_neighbors}; it must be at least 1."
        raise ValueError(msg)
    activations = np.asarray(activations, dtype=np.float64)
    n_neurons = activations.shape[1]
    used = np.arange(n_neurons)
    if standardize:
        sd = activations.std(axis=0)
        used = np.flatnonzero(sd > 1e-8 * max(sd.max(), 1e-300))
        activations = (activations[:, used] - activations[:, used].mean(axis=0)) / sd[used]
    if len(used) < 2:
        return sparse.csr_array((n_neurons, n_neurons))
    distance = squareform(pdist(activations.T)) / np.sqrt(len(activations))
    np.fill_diagonal(distance, np.inf)
    k = min(n_neighbors, len(used) - 1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    if kernel == "knn":
        weights = np.zeros_like(distance)
        np.put_along_axis(weights, order, 1, axis=1)
    else:
        bandwidth = np.take_along_axis(distance, order[:, -1:], axis=1).clip(min=1e-12)
        if kernel == "gaussian":
            bandwidth = np.full_like(bandwidth, np.sqrt(2) * np.median(bandwidth))
        weights = np.exp(-((distance / bandwidth) ** 2))
    weights = (weights + weights.T) / 2
    if kernel != "knn":
        weights[weights < _SMALLEST_WEIGHT] = 0
    if standardize and min_correlation > -1:
        weights[distance**2 >= 2 - 2 * min_correlation] = 0
    rows, columns = np.nonzero(weights)
    entries = weights[rows, columns], (used[rows], used[columns])
    return sparse.csr_array(entries, shape=(n_neurons, n_neurons))


def graph_modules(
    adjacency: sparse.sparray, activations: NDArray | None = None, *, resolution: float = 1.0, random_state: int = 0
) -> NDArray[np.intp]:
    """Groups of neurons: the components of a graph that is in pieces, the communities (Louvain) of one that is not.

    Parameters
    ----------
    adjacency
        Adjacency of shape ``[n_neurons, n_neurons]``.
    activations
        Activations of shape ``[n_cells, n_neurons]``. If given, an edge counts as much as the correlation of the neurons
        it joins, and not at all below 0: a map of fixed shape is cut where neighbours do not agree.
    resolution
        Above 1 for more and smaller communities, below 1 for fewer.
    random_state
        Seed of the communities.

    Returns
    -------
    Number of each neuron's module, of shape ``[n_neurons]``; modules are numbered by their first neuron.
    """
    graph = nx.from_scipy_sparse_array(adjacency)
    parts = list(nx.connected_components(graph))
    if len(parts) == 1:
        weighted = sparse.coo_array(adjacency)
        if activations is not None:
            i, j = weighted.coords
            with np.errstate(invalid="ignore", divide="ignore"):
                correlation = np.nan_to_num(np.corrcoef(activations, rowvar=False))
            weighted = sparse.coo_array((weighted.data * correlation[i, j].clip(min=0), (i, j)), shape=weighted.shape)
            weighted.eliminate_zeros()
        graph = nx.from_scipy_sparse_array(weighted.tocsr())
        parts = nx.community.louvain_communities(graph, seed=random_state, resolution=resolution)
    modules = np.empty(adjacency.shape[0], dtype=np.intp)
    for number, part in enumerate(sorted(parts, key=min)):
        modules[list(part)] = number
    return modules
