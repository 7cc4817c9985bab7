"""Simulators with known truth."""

from scvi_neuronedit.datasets._simulate import simulate_conditions
from scvi_neuronedit.datasets._simulate_batches import simulate_batches

__all__ = ["simulate_batches", "simulate_conditions"]
