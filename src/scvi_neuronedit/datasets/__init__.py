"""Simulators with known truth."""

from scvi_neuronedit.datasets._perturbations import simulate_combinations, simulate_mechanism_shifts
from scvi_neuronedit.datasets._simulate import simulate_conditions

__all__ = ["simulate_combinations", "simulate_conditions", "simulate_mechanism_shifts"]
