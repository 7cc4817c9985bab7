"""Building blocks in plain PyTorch."""

from scvi_neuronedit.nn._autoencoder import Autoencoder

__all__ = ["Autoencoder"]
