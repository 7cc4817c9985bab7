"""Training plan that keeps the history of scvi-tools but logs it once per epoch."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import torch
from scvi.train import TrainingPlan
from torch.optim.lr_scheduler import LambdaLR

from scvi_neuronedit.data import unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal

    from scvi.module.base import BaseModuleClass, LossOutput

_SCHEDULES = ("constant", "cosine")
_WARMUP = 0.1


class EpochTrainingPlan(TrainingPlan):
    """The training plan of scvi-tools, logging per epoch instead of at every step.

    Logging at every step takes most of the time of a step on small panels. The history has the same columns, but for the constant
    ``kl_weight``:
    ``train_loss``, ``elbo_train``, ``reconstruction_loss_train``, ``kl_local_train``, ``kl_global_train``, the
    ``extra_metrics`` of the loss, and the same for ``validation``.

    A callback may add to ``penalties``: functions of the loss's output that return what is added to the loss of a training
    step. Penalties are trained on, but not part of the losses in the history; of validation cells they are its column
    ``penalty_validation``.

    Parameters
    ----------
    module
        Module to train.
    lr_schedule
        ``"constant"``, or ``"cosine"``: the learning rate rises to ``lr`` over the first tenth of the steps and falls to zero along
        a cosine over the others (unless ``reduce_lr_on_plateau`` is set).
    **kwargs
        As for :class:`scvi.train.TrainingPlan`.
    """

    def __init__(
        self, module: BaseModuleClass, *, lr_schedule: Literal["constant", "cosine"] = "constant", **kwargs: Any
    ) -> None:
        if lr_schedule not in _SCHEDULES:
            raise ValueError(unknown_name("lr_schedule", lr_schedule, "the schedules", _SCHEDULES))
        super().__init__(module, **kwargs)
        self.lr_schedule = lr_schedule
        self._totals = {"train": defaultdict(float), "validation": defaultdict(float)}
        self.penalties: list[Callable[[LossOutput], torch.Tensor]] = []

    def get_optimizer_creator(self) -> Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]:
        """The optimizer of scvi-tools, in its fused form: the same update in one call for all parameters."""
        if self.optimizer_name not in ("Adam", "AdamW"):
            return super().get_optimizer_creator()
        kind = getattr(torch.optim, self.optimizer_name)
        return partial(kind, lr=self.lr, eps=self.eps, weight_decay=self.weight_decay, fused=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of its learning rate."""
        config = super().configure_optimizers()
        if self.lr_schedule == "cosine" and not self.reduce_lr_on_plateau:
            share = partial(_cosine_share, n_steps=self.trainer.estimated_stepping_batches)
            config["lr_scheduler"] = {"scheduler": LambdaLR(config["optimizer"], share), "interval": "step"}
        return config

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Loss of one minibatch."""
        if "kl_weight" in self.loss_kwargs:
            self.loss_kwargs["kl_weight"] = self.kl_weight
        return self._step(batch, "train")

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """Loss of one minibatch of validation cells."""
        self._step(batch, "validation")

    def on_train_epoch_end(self) -> None:
        """Log the losses of the epoch."""
        self._log_epoch("train", "train_loss")

    def on_validation_epoch_end(self) -> None:
        """Log the losses of the validation cells."""
        self._log_epoch("validation", "validation_loss")

    def _step(self, batch: dict[str, torch.Tensor], mode: Literal["train", "validation"]) -> torch.Tensor:
        _, _, output = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self._add(output, self._totals[mode])
        if not self.penalties:
            return output.loss
        penalty = sum(penalty(output) for penalty in self.penalties)
        if mode == "validation":
            self._totals[mode]["penalty"] += penalty.detach() * output.n_obs_minibatch
        return output.loss + penalty

    @staticmethod
    def _add(output: LossOutput, totals: dict[str, torch.Tensor]) -> None:
        n_cells = output.n_obs_minibatch
        totals["n_cells"] += n_cells
        totals["n_batches"] += 1
        totals["loss"] += output.loss.detach() * n_cells
        totals["reconstruction_loss"] += output.reconstruction_loss_sum.detach()
        totals["kl_local"] += output.kl_local_sum.detach()
        totals["kl_global"] += output.kl_global_sum.detach()
        for name, value in output.extra_metrics.items():
            totals["extra", name] += value.detach() * n_cells

    def _log_epoch(self, mode: Literal["train", "validation"], loss_name: str) -> None:
        totals, self._totals[mode] = self._totals[mode], defaultdict(float)
        n_cells = totals["n_cells"]
        n_obs = self.n_obs_training if mode == "train" else self.n_obs_validation
        reconstruction_loss, kl_local = totals["reconstruction_loss"] / n_cells, totals["kl_local"] / n_cells
        kl_global = totals["kl_global"] / totals["n_batches"]
        metrics = {
            f"elbo_{mode}": reconstruction_loss + kl_local + kl_global / (n_obs or 1),
            f"reconstruction_loss_{mode}": reconstruction_loss,
            f"kl_local_{mode}": kl_local,
            f"kl_global_{mode}": kl_global,
        }
        metrics |= {f"{key[1]}_{mode}": total / n_cells for key, total in totals.items() if key[0] == "extra"}
        if "penalty" in totals:
            metrics[f"penalty_{mode}"] = totals["penalty"] / n_cells
        self.log(loss_name, totals["loss"] / n_cells, prog_bar=True, sync_dist=self.use_sync_dist)
        self.log_dict(metrics, sync_dist=self.use_sync_dist)


def _cosine_share(step: int, n_steps: float) -> float:
    """Share of the learning rate at a step, counted from 0."""
    progress = (step + 1) / n_steps
    if progress < _WARMUP:
        return progress / _WARMUP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARMUP) / (1 - _WARMUP)))
