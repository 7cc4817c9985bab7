"""Simulators with known truth, and the networks they run on."""

from scvi_neuronedit.datasets._ode_system import ODESystem, example_network
from scvi_neuronedit.datasets._simulate import simulate_conditions
from scvi_neuronedit.datasets._simulate_batches import simulate_batches
from scvi_neuronedit.datasets._trajectories import corrupt_prior, read_trajectories, simulate_trajectories

__all__ = [
    "ODESystem",
    "corrupt_prior",
    "example_network",
    "read_trajectories",
    "simulate_batches",
    "simulate_conditions",
    "simulate_trajectories",
]
