"""Numbers to judge predictions by, as defined in the documentation."""

from scvi_neuronedit.edit import energy_distance, feature_emd, feature_emd_interval, pearson_delta
from scvi_neuronedit.metrics._batch import control_errors, control_scores, correlation_error, preservation
from scvi_neuronedit.metrics._enrichment import latent_enrichment
from scvi_neuronedit.metrics._graph import circular_correlation, group_purity, morans_i
from scvi_neuronedit.metrics._mask_recovery import mask_recovery, match_latents
from scvi_neuronedit.metrics._networks import network_scores
from scvi_neuronedit.metrics._prediction import prediction_scores, rank_differential_features
from scvi_neuronedit.metrics._treatment_effects import (
    average_treatment_effect,
    summarize_treatment_effects,
    treatment_effect_scores,
)

__all__ = [
    "average_treatment_effect",
    "circular_correlation",
    "control_errors",
    "control_scores",
    "correlation_error",
    "energy_distance",
    "feature_emd",
    "feature_emd_interval",
    "group_purity",
    "latent_enrichment",
    "mask_recovery",
    "match_latents",
    "morans_i",
    "network_scores",
    "pearson_delta",
    "prediction_scores",
    "preservation",
    "rank_differential_features",
    "summarize_treatment_effects",
    "treatment_effect_scores",
]
