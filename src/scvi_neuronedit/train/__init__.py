"""Training plans and callbacks for the trainer of scvi-tools."""

from scvi_neuronedit.train._plan import EpochTrainingPlan

__all__ = ["EpochTrainingPlan"]
