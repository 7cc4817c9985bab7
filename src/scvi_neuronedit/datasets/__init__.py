"""Simulators with known truth, and the networks they run on."""

from scvi_neuronedit.datasets._norman import norman_2019
from scvi_neuronedit.datasets._ode_system import ODESystem, example_network
from scvi_neuronedit.datasets._perturbations import simulate_combinations, simulate_mechanism_shifts
from scvi_neuronedit.datasets._simulate import simulate_conditions
from scvi_neuronedit.datasets._simulate_batches import simulate_batches
from scvi_neuronedit.datasets._trajectories import corrupt_prior, read_trajectories, simulate_trajectories

__all__ = [
    "ODESystem",
    "corrupt_prior",
    "example_network",
    "norman_2019",
    "read_trajectories",
    "simulate_batches",
    "simulate_combinations",
    "simulate_conditions",
    "simulate_mechanism_shifts",
    "simulate_trajectories",
]
