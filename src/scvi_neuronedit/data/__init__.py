"""Cell selection, reading and writing of AnnData and of FCS files."""

from scvi_neuronedit.data._arcsinh import arcsinh, inverse_arcsinh
from scvi_neuronedit.data._controls import Controls, check_reference, find_controls
from scvi_neuronedit.data._covariance import CrossCovariance
from scvi_neuronedit.data._fcs_read import read_fcs, select_markers
from scvi_neuronedit.data._fcs_write import write_fcs
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

__all__ = [
    "RECORD_KEY",
    "Controls",
    "CrossCovariance",
    "MatrixReader",
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
    "fingerprint_cells",
    "inverse_arcsinh",
    "listed",
    "match_features",
    "read_fcs",
    "record_layer",
    "select_cells",
    "select_markers",
    "select_populations",
    "storable_selection",
    "summarize_values",
    "unknown_name",
    "use_csr_matrix",
    "write_fcs",
]
