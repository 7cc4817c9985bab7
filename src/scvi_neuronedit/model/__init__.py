"""Model classes: AnnData in, layers out."""

from scvi_neuronedit.model._neuronedit import NeuronEdit
from scvi_neuronedit.model._regulatory_ode import RegulatoryODE
from scvi_neuronedit.model._samsvae import CPAVAE, SAMSVAE, ConditionalVAE, SVAEPlus

__all__ = [
    "CPAVAE",
    "SAMSVAE",
    "ConditionalVAE",
    "NeuronEdit",
    "RegulatoryODE",
    "SVAEPlus",
]
