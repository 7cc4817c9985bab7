"""Modules in the sense of scvi-tools: inference, generative model and loss."""

from scvi_neuronedit.module._autoencoder import SIZE_FACTOR_KEY, AutoencoderModule, modality_keys
from scvi_neuronedit.module._head import LIKELIHOODS, Head

__all__ = ["LIKELIHOODS", "SIZE_FACTOR_KEY", "AutoencoderModule", "Head", "modality_keys"]
