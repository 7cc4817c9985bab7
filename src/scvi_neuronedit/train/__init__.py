"""Training plans, callbacks and loaders for the trainer of scvi-tools."""

from scvi_neuronedit.train._dense_start import DenseStart
from scvi_neuronedit.train._graph import GraphRegularization
from scvi_neuronedit.train._lambdas import cross_validate_lambdas
from scvi_neuronedit.train._perturbation_plan import PerturbationTrainingPlan
from scvi_neuronedit.train._plan import EpochTrainingPlan
from scvi_neuronedit.train._pruning import DASHPruning
from scvi_neuronedit.train._trajectories import PairSplitter, RegulatoryTrainingPlan
from scvi_neuronedit.train._watched_layer import find_layers

__all__ = [
    "DASHPruning",
    "DenseStart",
    "EpochTrainingPlan",
    "GraphRegularization",
    "PairSplitter",
    "PerturbationTrainingPlan",
    "RegulatoryTrainingPlan",
    "cross_validate_lambdas",
    "find_layers",
]
