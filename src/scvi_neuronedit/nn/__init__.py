"""Building blocks in plain PyTorch."""

from scvi_neuronedit.nn._autoencoder import Autoencoder
from scvi_neuronedit.nn._dash import SCALINGS, WeightChain, dash_scores
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
from scvi_neuronedit.nn._regulatory import SOLVERS, DynamicsWeights, RegulatoryDynamics, integrate
from scvi_neuronedit.nn._residual_mlp import ResidualMLP

__all__ = [
    "SCALINGS",
    "SOLVERS",
    "Autoencoder",
    "DenseShift",
    "DynamicsWeights",
    "KeepsMasks",
    "PriorShift",
    "RegulatoryDynamics",
    "ResidualMLP",
    "ShiftMoments",
    "ShiftSample",
    "SparseShift",
    "WeightChain",
    "bernoulli_kl",
    "dash_scores",
    "effective_weight",
    "integrate",
    "normal_kl",
    "prune_layer",
    "straight_through_bernoulli",
    "weight_sparsity",
]
