"""Building blocks in plain PyTorch."""

from scvi_neuronedit.nn._autoencoder import Autoencoder
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
from scvi_neuronedit.nn._residual_mlp import ResidualMLP

__all__ = [
    "Autoencoder",
    "DenseShift",
    "PriorShift",
    "ResidualMLP",
    "ShiftMoments",
    "ShiftSample",
    "SparseShift",
    "bernoulli_kl",
    "normal_kl",
    "straight_through_bernoulli",
]
