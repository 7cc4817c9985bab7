"""Training plan of SAMS-VAE and its relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scvi_neuronedit.train._plan import EpochTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    import torch
    from scvi.module.base import BaseModuleClass


class PerturbationTrainingPlan(EpochTrainingPlan):
    """:class:`EpochTrainingPlan` with a larger learning rate for the effects of perturbations.

    Adam moves a parameter by about the learning rate in a step, whatever its gradient. Weights of the networks need not go
    far, but the effect of a perturbation may be several prior standard deviations.

    Parameters
    ----------
    module
        Module to train.
    effect_lr_factor
        Learning rate of means and standard deviations of the effects, as a multiple of ``lr``.
    **kwargs
        As for :class:`EpochTrainingPlan`.
    """

    def __init__(self, module: BaseModuleClass, *, effect_lr_factor: float = 10.0, **kwargs: Any) -> None:
        if not effect_lr_factor > 0:
            msg = f"effect_lr_factor={effect_lr_factor}; it must be above 0."
            raise ValueError(msg)
        super().__init__(module, **kwargs)
        self.effect_lr_factor = effect_lr_factor

    def get_optimizer_creator(self) -> Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]:
        """That of :class:`EpochTrainingPlan`, for two groups of parameters. A custom optimizer gets them all in one."""
        create = super().get_optimizer_creator()
        if self.optimizer_name == "Custom" or self.module.shift is None:
            return create

        def create_with_groups(parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
            effects = self.module.shift.effect_parameters()
            own = {id(parameter) for parameter in effects}
            others = [parameter for parameter in parameters if id(parameter) not in own]
            return create([{"params": others}, {"params": effects, "lr": self.lr * self.effect_lr_factor}])

        return create_with_groups
