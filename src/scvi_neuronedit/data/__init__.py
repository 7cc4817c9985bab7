"""Cell selection, reading and writing of AnnData and of FCS files."""

from scvi_neuronedit.data._arcsinh import arcsinh, inverse_arcsinh
from scvi_neuronedit.data._controls import Controls, check_reference, find_controls
from scvi_neuronedit.data._covariance import CrossCovariance
from scvi_neuronedit.data._dosage import (
    DosageCode,
    Perturbation,
    find_dosages,
    read_dosages,
    warn_of_inseparable_perturbations,
    warn_of_rare_perturbations,
)
from scvi_neuronedit.data._fcs_read import read_fcs, select_markers
from scvi_neuronedit.data._fcs_write import write_fcs
from scvi_neuronedit.data._gene_sets import match_gene_sets, read_gmt
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
from scvi_neuronedit.data._modalities import JoinedModalities, JoinedReader
from scvi_neuronedit.data._names import listed, unknown_name
from scvi_neuronedit.data._obs import check_obs_column, check_size_factors
from scvi_neuronedit.data._populations import Populations, fingerprint_cells, select_populations
from scvi_neuronedit.data._priors import match_prior
from scvi_neuronedit.data._selection import Selection, describe_selection, select_cells, storable_selection
from scvi_neuronedit.data._trajectories import trajectories_in_order
from scvi_neuronedit.data._treatment_effect import EFFECT_METHODS, transform_for_effect

__all__ = [
    "EFFECT_METHODS",
    "RECORD_KEY",
    "Controls",
    "CrossCovariance",
    "DosageCode",
    "JoinedModalities",
    "JoinedReader",
    "MatrixReader",
    "Perturbation",
    "Populations",
    "Selection",
    "ValueSummary",
    "arcsinh",
    "assemble",
    "check_layer_is_free",
    "check_likelihood",
    "check_obs_column",
    "check_reference",
    "check_size_factors",
    "check_unique_features",
    "describe_selection",
    "find_controls",
    "find_dosages",
    "fingerprint_cells",
    "inverse_arcsinh",
    "listed",
    "match_features",
    "match_gene_sets",
    "match_prior",
    "read_dosages",
    "read_fcs",
    "read_gmt",
    "record_layer",
    "select_cells",
    "select_markers",
    "select_populations",
    "storable_selection",
    "summarize_values",
    "trajectories_in_order",
    "transform_for_effect",
    "unknown_name",
    "use_csr_matrix",
    "warn_of_inseparable_perturbations",
    "warn_of_rare_perturbations",
    "write_fcs",
]
