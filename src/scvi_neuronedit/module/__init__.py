"""Modules in the sense of scvi-tools: inference, generative model and loss."""

from scvi_neuronedit.module._autoencoder import LIKELIHOODS, SIZE_FACTOR_KEY, AutoencoderModule
from scvi_neuronedit.module._programs import GenePrograms
from scvi_neuronedit.module._regulatory import RegulatoryODEModule

__all__ = ["LIKELIHOODS", "SIZE_FACTOR_KEY", "AutoencoderModule", "GenePrograms", "RegulatoryODEModule"]
