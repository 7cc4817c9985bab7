"""Building blocks in plain PyTorch."""

from scvi_neuronedit.nn._autoencoder import Autoencoder
from scvi_neuronedit.nn._axes import readable_axes
from scvi_neuronedit.nn._coactivation import KERNELS, coactivation_graph, graph_modules
from scvi_neuronedit.nn._dash import SCALINGS, WeightChain, dash_scores
from scvi_neuronedit.nn._graphs import GRAPHS, check_adjacency, graph_layout, most_square, named_graph
from scvi_neuronedit.nn._jacobian import mean_jacobian
from scvi_neuronedit.nn._laplacian import LAPLACIANS, NORMALIZATIONS, GraphPenalty, laplacian
from scvi_neuronedit.nn._masks import KeepsMasks, effective_weight, prune_layer, weight_sparsity
from scvi_neuronedit.nn._mechanism_shift import (
    DenseShift,
    PriorShift,
    ShiftMoments,
    ShiftSample,
    SparseShift,
    bernoulli_kl,
    normal_kl,
    straight_through_bernoulli,
)
from scvi_neuronedit.nn._neuron_graph import NeuronGraph
from scvi_neuronedit.nn._regulatory import SOLVERS, DynamicsWeights, RegulatoryDynamics, integrate
from scvi_neuronedit.nn._residual_mlp import ResidualMLP
from scvi_neuronedit.nn._sparse_rotation import sparse_rotation

__all__ = [
    "GRAPHS",
    "KERNELS",
    "LAPLACIANS",
    "NORMALIZATIONS",
    "SCALINGS",
    "SOLVERS",
    "Autoencoder",
    "DenseShift",
    "DynamicsWeights",
    "GraphPenalty",
    "KeepsMasks",
    "NeuronGraph",
    "PriorShift",
    "RegulatoryDynamics",
    "ResidualMLP",
    "ShiftMoments",
    "ShiftSample",
    "SparseShift",
    "WeightChain",
    "bernoulli_kl",
    "check_adjacency",
    "coactivation_graph",
    "dash_scores",
    "effective_weight",
    "graph_layout",
    "graph_modules",
    "integrate",
    "laplacian",
    "mean_jacobian",
    "most_square",
    "named_graph",
    "normal_kl",
    "prune_layer",
    "readable_axes",
    "sparse_rotation",
    "straight_through_bernoulli",
    "weight_sparsity",
]
