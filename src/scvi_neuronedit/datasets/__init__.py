"""Simulators with known truth."""

from scvi_neuronedit.datasets._cite import simulate_cite_seq
from scvi_neuronedit.datasets._simulate import simulate_conditions

__all__ = ["simulate_cite_seq", "simulate_conditions"]
