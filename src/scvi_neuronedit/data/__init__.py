"""Cell selection, reading and writing of AnnData."""

from scvi_neuronedit.data._dosage import (
    DosageCode,
    Perturbation,
    find_dosages,
    read_dosages,
    warn_of_inseparable_perturbations,
    warn_of_rare_perturbations,
)
from scvi_neuronedit.data._layers import RECORD_KEY, assemble, check_layer_is_free, record_layer
from scvi_neuronedit.data._matrix import (
    MatrixReader,
    ValueSummary,
    check_likelihood,
    check_unique_features,
    match_features,
    summarize_values,
    use_csr_matrix,
)
from scvi_neuronedit.data._names import listed, unknown_name
from scvi_neuronedit.data._obs import check_obs_column, check_size_factors
from scvi_neuronedit.data._populations import Populations, fingerprint_cells, select_populations
from scvi_neuronedit.data._selection import Selection, describe_selection, select_cells, storable_selection
from scvi_neuronedit.data._treatment_effect import EFFECT_METHODS, transform_for_effect

__all__ = [
    "EFFECT_METHODS",
    "RECORD_KEY",
    "DosageCode",
    "MatrixReader",
    "Perturbation",
    "Populations",
    "Selection",
    "ValueSummary",
    "assemble",
    "check_layer_is_free",
    "check_likelihood",
    "check_obs_column",
    "check_size_factors",
    "check_unique_features",
    "describe_selection",
    "find_dosages",
    "fingerprint_cells",
    "listed",
    "match_features",
    "read_dosages",
    "record_layer",
    "select_cells",
    "select_populations",
    "storable_selection",
    "summarize_values",
    "transform_for_effect",
    "unknown_name",
    "use_csr_matrix",
    "warn_of_inseparable_perturbations",
    "warn_of_rare_perturbations",
]
