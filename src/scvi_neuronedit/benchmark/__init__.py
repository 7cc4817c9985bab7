"""Compare methods on held-out groups and held-out controls: splits, rivals, runners, reports."""

from scvi_neuronedit.benchmark._batch_methods import (
    BatchMethod,
    BatchTask,
    ComBat,
    CytoNorm,
    CytoVI,
    Harmony,
    MeanShift,
    NeuronEditCorrection,
    NoCorrection,
    QuantileCorrection,
)
from scvi_neuronedit.benchmark._control_test import run_control_test, summarize_control_test
from scvi_neuronedit.benchmark._methods import Method, NeuronEditMethod, Task, gene_mean_shift, unchanged
from scvi_neuronedit.benchmark._run import CEILING, print_report, run_leave_one_out, summarize, write_json
from scvi_neuronedit.benchmark._splits import Split, leave_one_group_out

__all__ = [
    "CEILING",
    "BatchMethod",
    "BatchTask",
    "ComBat",
    "CytoNorm",
    "CytoVI",
    "Harmony",
    "MeanShift",
    "Method",
    "NeuronEditCorrection",
    "NeuronEditMethod",
    "NoCorrection",
    "QuantileCorrection",
    "Split",
    "Task",
    "gene_mean_shift",
    "leave_one_group_out",
    "print_report",
    "run_control_test",
    "run_leave_one_out",
    "summarize",
    "summarize_control_test",
    "unchanged",
    "write_json",
]
