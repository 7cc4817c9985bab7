"""Compare methods on held-out groups: splits, baselines, a runner, a report."""

from scvi_neuronedit.benchmark._methods import Method, NeuronEditMethod, Task, gene_mean_shift, unchanged
from scvi_neuronedit.benchmark._run import CEILING, print_report, run_leave_one_out, summarize, write_json
from scvi_neuronedit.benchmark._splits import Split, leave_one_group_out

__all__ = [
    "CEILING",
    "Method",
    "NeuronEditMethod",
    "Split",
    "Task",
    "gene_mean_shift",
    "leave_one_group_out",
    "print_report",
    "run_leave_one_out",
    "summarize",
    "unchanged",
    "write_json",
]
