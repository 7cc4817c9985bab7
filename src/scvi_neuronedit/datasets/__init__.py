"""Simulators with known truth, and loaders of public data."""

from scvi_neuronedit.datasets._norman import norman_2019
from scvi_neuronedit.datasets._perturbations import simulate_combinations, simulate_mechanism_shifts
from scvi_neuronedit.datasets._simulate import simulate_conditions

__all__ = ["norman_2019", "simulate_combinations", "simulate_conditions", "simulate_mechanism_shifts"]
