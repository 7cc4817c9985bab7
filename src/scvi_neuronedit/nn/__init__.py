"""Building blocks in plain PyTorch."""

from scvi_neuronedit.nn._autoencoder import Autoencoder
from scvi_neuronedit.nn._dash import SCALINGS, WeightChain, dash_scores
from scvi_neuronedit.nn._masks import KeepsMasks, effective_weight, prune_layer, weight_sparsity
from scvi_neuronedit.nn._regulatory import SOLVERS, DynamicsWeights, RegulatoryDynamics, integrate

__all__ = [
    "SCALINGS",
    "SOLVERS",
    "Autoencoder",
    "DynamicsWeights",
    "KeepsMasks",
    "RegulatoryDynamics",
    "WeightChain",
    "dash_scores",
    "effective_weight",
    "integrate",
    "prune_layer",
    "weight_sparsity",
]
