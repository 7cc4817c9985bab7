"""Plots in the style of scanpy."""

from scvi_neuronedit.pl._predicted_change import predicted_change

__all__ = ["predicted_change"]
