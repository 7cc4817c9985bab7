"""Model classes: AnnData in, layers out."""

from scvi_neuronedit.model._neuronedit import NeuronEdit

__all__ = ["NeuronEdit"]
