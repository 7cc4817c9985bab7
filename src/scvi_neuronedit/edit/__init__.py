"""Neuron editing on plain arrays: percentile tables, activation maps and edits."""

from scvi_neuronedit.edit._choice import (
    NO_EDIT,
    Candidate,
    choose_candidate,
    leave_group_out,
    random_folds,
    sample_groups,
    summarize_scores,
    usable_groups,
)
from scvi_neuronedit.edit._composition import composition_weights
from scvi_neuronedit.edit._draws import CellDraws
from scvi_neuronedit.edit._edit import Edit, Step, describe
from scvi_neuronedit.edit._extrapolation import extrapolation_std
from scvi_neuronedit.edit._guard import signal_share
from scvi_neuronedit.edit._levels import LevelDistributions
from scvi_neuronedit.edit._local_maps import CarriedMap, GroupGaussianMap, GroupMap, NeighborMap, PairsMap, find_groups
from scvi_neuronedit.edit._maps import ActivationMap, GaussianMap, MeanMap, PercentileMap, make_map
from scvi_neuronedit.edit._percentiles import LookUp, percentile_table
from scvi_neuronedit.edit._residual import carry_counts
from scvi_neuronedit.edit._scores import energy_distance, feature_emd, feature_emd_interval, pearson_delta
from scvi_neuronedit.edit._support import UNSUPPORTED, neighbor_support

__all__ = [
    "ActivationMap",
    "Candidate",
    "CarriedMap",
    "CellDraws",
    "Edit",
    "GaussianMap",
    "GroupGaussianMap",
    "GroupMap",
    "LevelDistributions",
    "LookUp",
    "MeanMap",
    "NO_EDIT",
    "NeighborMap",
    "PairsMap",
    "PercentileMap",
    "Step",
    "UNSUPPORTED",
    "carry_counts",
    "choose_candidate",
    "composition_weights",
    "describe",
    "energy_distance",
    "extrapolation_std",
    "feature_emd",
    "feature_emd_interval",
    "find_groups",
    "leave_group_out",
    "make_map",
    "neighbor_support",
    "pearson_delta",
    "percentile_table",
    "random_folds",
    "sample_groups",
    "signal_share",
    "summarize_scores",
    "usable_groups",
]
