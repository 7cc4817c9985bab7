"""Layers of any module, watched from outside while they are run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from scvi_neuronedit.data import unknown_name

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from scvi_neuronedit.nn import GraphPenalty


def find_layers(module: nn.Module, layer: str) -> dict[str, nn.Module]:
    """The submodules that a layer's name stands for: one, or one for each network.

    Parameters
    ----------
    module
        A module of this package, or any other.
    layer
        Name of the layer, or of a submodule.
    """
    submodules = {name: part for name, part in module.named_modules() if name}
    if layer in submodules:
        return {layer: submodules[layer]}
    if hasattr(module, "find_layers"):
        return module.find_layers(layer)
    raise ValueError(unknown_name("layer", layer, "the module", list(submodules)))


class WatchedLayer:
    """A layer whose activations are recorded as they pass, before noise is added."""

    def __init__(self, layer: nn.Module, noise: float, of_input: bool) -> None:
        self.noise, self.of_input = noise, of_input
        self.z: torch.Tensor | None = None
        self.replacement: torch.Tensor | None = None
        self.penalty: GraphPenalty | None = None
        self.components: NDArray | None = None
        self.n_same, self.frozen = 0, False
        self.handle = (layer.register_forward_pre_hook if of_input else layer.register_forward_hook)(self._record)

    def _record(self, layer: nn.Module, inputs: tuple, output: torch.Tensor | None = None) -> Any:
        self.z = inputs[0] if self.of_input else output
        if self.replacement is not None:
            handed_on = self.replacement.expand_as(self.z)
        elif layer.training and self.noise > 0:
            handed_on = self.z + self.noise * torch.randn_like(self.z)
        else:
            return None
        return (handed_on, *inputs[1:]) if self.of_input else handed_on


class Evaluation:
    """A module in evaluation mode, and the random numbers afterwards as if nothing had been drawn."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.was_training, self.rng_state = self.module.training, torch.random.get_rng_state()
        self.module.eval()

    def __exit__(self, *_: object) -> None:
        self.module.train(self.was_training)
        torch.random.set_rng_state(self.rng_state)
