"""Model classes: AnnData in, layers out."""

from scvi_neuronedit.model._neuronedit import NeuronEdit
from scvi_neuronedit.model._regulatory_ode import RegulatoryODE

__all__ = ["NeuronEdit", "RegulatoryODE"]
