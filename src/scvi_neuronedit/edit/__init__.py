"""Neuron editing on plain arrays: percentile tables, activation maps and edits."""

from scvi_neuronedit.edit._composition import composition_weights
from scvi_neuronedit.edit._edit import Edit, Step, describe
from scvi_neuronedit.edit._maps import (
    ActivationMap,
    GaussianMap,
    MeanMap,
    NeighborMap,
    PercentileMap,
    make_map,
)
from scvi_neuronedit.edit._percentiles import LookUp, percentile_table
from scvi_neuronedit.edit._residual import carry_counts

__all__ = [
    "ActivationMap",
    "Edit",
    "GaussianMap",
    "LookUp",
    "MeanMap",
    "NeighborMap",
    "PercentileMap",
    "Step",
    "carry_counts",
    "composition_weights",
    "describe",
    "make_map",
    "percentile_table",
]
