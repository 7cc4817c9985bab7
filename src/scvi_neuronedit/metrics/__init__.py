"""Numbers to judge predictions by, as defined in the documentation."""

from scvi_neuronedit.edit import energy_distance, pearson_delta
from scvi_neuronedit.metrics._networks import network_scores
from scvi_neuronedit.metrics._prediction import prediction_scores, rank_differential_features

__all__ = ["energy_distance", "network_scores", "pearson_delta", "prediction_scores", "rank_differential_features"]
