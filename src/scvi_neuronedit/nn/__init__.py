"""Building blocks in plain PyTorch."""

from scvi_neuronedit.nn._autoencoder import Autoencoder
from scvi_neuronedit.nn._coactivation import KERNELS, coactivation_graph, graph_modules
from scvi_neuronedit.nn._graphs import GRAPHS, check_adjacency, graph_layout, most_square, named_graph
from scvi_neuronedit.nn._jacobian import mean_jacobian
from scvi_neuronedit.nn._laplacian import LAPLACIANS, NORMALIZATIONS, GraphPenalty, laplacian
from scvi_neuronedit.nn._neuron_graph import NeuronGraph

__all__ = [
    "GRAPHS",
    "KERNELS",
    "LAPLACIANS",
    "NORMALIZATIONS",
    "Autoencoder",
    "GraphPenalty",
    "NeuronGraph",
    "check_adjacency",
    "coactivation_graph",
    "graph_layout",
    "graph_modules",
    "laplacian",
    "mean_jacobian",
    "most_square",
    "named_graph",
]
