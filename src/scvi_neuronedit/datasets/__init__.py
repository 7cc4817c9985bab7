"""Simulators with known truth."""

from scvi_neuronedit.datasets._simulate import simulate_conditions

__all__ = ["simulate_conditions"]
