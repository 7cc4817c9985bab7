"""Neuron editing for single-cell data: predict cells after a change that was only measured on other cells."""

from importlib.metadata import version

from scvi_neuronedit import benchmark, data, datasets, edit, metrics, model, module, nn, pl, train
from scvi_neuronedit.edit import Edit
from scvi_neuronedit.model import CPAVAE, SAMSVAE, ConditionalVAE, NeuronEdit, RegulatoryODE, SVAEPlus

__version__ = version("scvi-neuronedit")

__all__ = [
    "CPAVAE",
    "SAMSVAE",
    "ConditionalVAE",
    "Edit",
    "NeuronEdit",
    "RegulatoryODE",
    "SVAEPlus",
    "__version__",
    "benchmark",
    "data",
    "datasets",
    "edit",
    "metrics",
    "model",
    "module",
    "nn",
    "pl",
    "train",
]
