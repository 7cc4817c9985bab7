"""Plots in the style of scanpy."""

from scvi_neuronedit.pl._neuron_map import draw_neurons, edit_on_map, neuron_map
from scvi_neuronedit.pl._neuron_programs import loss_against_weight, neuron_heatmap, neuron_programs
from scvi_neuronedit.pl._predicted_change import predicted_change

__all__ = [
    "draw_neurons",
    "edit_on_map",
    "loss_against_weight",
    "neuron_heatmap",
    "neuron_map",
    "neuron_programs",
    "predicted_change",
]
