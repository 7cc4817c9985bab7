"""Training plans and callbacks for the trainer of scvi-tools."""

from scvi_neuronedit.train._graph import GraphRegularization, find_layers
from scvi_neuronedit.train._plan import EpochTrainingPlan

__all__ = ["EpochTrainingPlan", "GraphRegularization", "find_layers"]
