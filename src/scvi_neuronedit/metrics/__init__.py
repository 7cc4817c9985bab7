"""Numbers to judge predictions by, as defined in the documentation."""

from scvi_neuronedit.metrics._distances import energy_distance
from scvi_neuronedit.metrics._prediction import pearson_delta, prediction_scores, rank_differential_features

__all__ = ["energy_distance", "pearson_delta", "prediction_scores", "rank_differential_features"]
