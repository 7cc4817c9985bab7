"""Numbers to judge predictions by, as defined in the documentation."""

from scvi_neuronedit.edit import energy_distance, feature_emd, feature_emd_interval, pearson_delta
from scvi_neuronedit.metrics._batch import (
    control_errors,
    control_scores,
    correlation_error,
    preservation,
)
from scvi_neuronedit.metrics._graph import circular_correlation, group_purity, morans_i
from scvi_neuronedit.metrics._prediction import prediction_scores, rank_differential_features

__all__ = [
    "circular_correlation",
    "control_errors",
    "control_scores",
    "correlation_error",
    "energy_distance",
    "feature_emd",
    "feature_emd_interval",
    "group_purity",
    "morans_i",
    "pearson_delta",
    "prediction_scores",
    "preservation",
    "rank_differential_features",
]
