"""Modules in the sense of scvi-tools: inference, generative model and loss."""

from scvi_neuronedit.module._autoencoder import LIKELIHOODS, SIZE_FACTOR_KEY, AutoencoderModule
from scvi_neuronedit.module._perturbation import DOSAGE_KEY, PERTURBATION_LIKELIHOODS, PerturbationModule
from scvi_neuronedit.module._programs import GenePrograms
from scvi_neuronedit.module._regulatory import RegulatoryODEModule

__all__ = [
    "DOSAGE_KEY",
    "LIKELIHOODS",
    "PERTURBATION_LIKELIHOODS",
    "SIZE_FACTOR_KEY",
    "AutoencoderModule",
    "GenePrograms",
    "PerturbationModule",
    "RegulatoryODEModule",
]
