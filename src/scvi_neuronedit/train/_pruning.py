"""Pruning while training, on a schedule (DASH, arXiv 2403.04805)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from scvi_neuronedit.nn import SCALINGS, WeightChain
from scvi_neuronedit.train._graph import GraphRegularization

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning.pytorch import LightningModule, Trainer


class DASHPruning(Callback):
    """Removes weights in steps while the model trains, and keeps the model of the best epoch.

    At the beginning of an epoch that cuts, all weights are scored (:func:`~scvi_neuronedit.nn.dash_scores`), those of
    lowest score are removed from every layer, and the learning rate goes back to where it began (unless it follows a course set
    for all steps, ``lr_schedule="cosine"``); weights that stay are not rewound. With ``lambdas=0`` this is gradual magnitude pruning, with ``lambdas=1`` the prior alone decides
    (the paper's SparseFlow and BioPrune). Losses of validation data and the ``sparsity`` of each epoch are in the
    model's ``history``. Afterwards the model is as it was after the epoch of lowest validation loss since the first cut.

    Works on any model of this package. A module says itself what is pruned if it has ``weight_chains()``; of others
    each linear layer is pruned on its own, by size.

    Beside :class:`~scvi_neuronedit.train.GraphRegularization` the penalty of the validation cells counts as part of their
    loss, epochs without penalty cannot be the best, and the graph that is kept is that of the best epoch.

    Parameters
    ----------
    lambdas
        Weight of the prior, between 0 and 1: one number, or one for each layer of a chain. With 1 and priors of zeros
        and ones, ties between weights of a single layer are broken arbitrarily; 0.999 breaks them by size.
    start
        First epoch that cuts, counted from 1.
    first
        Share of the weights that the first cut removes.
    every
        Later cuts are at the epochs after ``start``, except the last, that are multiples of this. ``None``: one cut.
    amount
        Share of the remaining weights that each later cut removes.
    scaling
        ``"balanced"`` or ``"paper"``, see :func:`~scvi_neuronedit.nn.dash_scores`.
    target_sparsity
        Cutting ends at this sparsity, and only epochs that have it can be the best. If ``None``, cutting goes on, and
        the best epoch decides.
    patience
        Training stops after this many epochs without a better validation loss. ``None``: never.
    chains
        Function of the module that returns what is pruned, instead of the above.

    Attributes
    ----------
    best_epoch, best_loss, best_sparsity
        Of the epoch whose model was kept. The first is ``None`` before training.
    """

    def __init__(
        self,
        lambdas: float | Sequence[float] = 0.5,
        *,
        start: int = 3,
        first: float = 0.7,
        every: int | None = 10,
        amount: float = 0.1,
        scaling: Literal["paper", "balanced"] = "balanced",
        target_sparsity: float | None = None,
        patience: int | None = 40,
        chains: Callable[[nn.Module], list[WeightChain]] | None = None,
    ) -> None:
        values = [lambdas] if isinstance(lambdas, int | float) else list(lambdas)
        shares = {"lambdas": values, "first": [first], "amount": [amount], "target_sparsity": [target_sparsity or 0]}
        for name, numbers in shares.items():
            if not numbers or not all(0 <= number <= 1 for number in numbers):
                msg = f"{name}={numbers if name == 'lambdas' else numbers[0]}; it must lie between 0 and 1."
                raise ValueError(msg)
        for name, number in {"start": start, "every": every, "patience": patience}.items():
            if number is not None and number < 1:
                msg = f"{name}={number}; it must be at least 1."
                raise ValueError(msg)
        if scaling not in SCALINGS:
            msg = f"scaling={scaling!r} is not one of {SCALINGS}."
            raise ValueError(msg)
        self.lambdas = values[0] if isinstance(lambdas, int | float) else tuple(values)
        self.start, self.first, self.every, self.amount = start, first, every, amount
        self.scaling, self.target_sparsity, self.patience, self.chains = scaling, target_sparsity, patience, chains
        self._forget()

    def with_lambdas(self, lambdas: float | Sequence[float]) -> DASHPruning:
        """The same schedule with other weights of the prior.

        Parameters
        ----------
        lambdas
            See the class.
        """
        other = copy.copy(self)
        other.lambdas = lambdas if isinstance(lambdas, int | float) else tuple(lambdas)
        other._forget()
        return other

    def share_cut(self, epoch: int, max_epochs: int) -> float:
        """Share of the remaining weights that is removed before an epoch is trained.

        Parameters
        ----------
        epoch
            The epoch, counted from 1.
        max_epochs
            Number of epochs of the whole training; -1 if there is no end.
        """
        if epoch == self.start:
            return self.first
        if self.every is None or epoch < self.start or epoch % self.every or epoch == max_epochs:
            return 0.0
        return self.amount

    @property
    def sparsity(self) -> float:
        """Share of the prunable weights that are zero now."""
        return sum(chain.sparsity * chain.n_weights for chain in self._chains) / sum(c.n_weights for c in self._chains)

    def summary(self) -> dict[str, Any]:
        """What was done, as plain values: schedule, lambdas and the epoch that was kept."""
        names = ("lambdas", "start", "first", "every", "amount", "scaling", "target_sparsity", "patience")
        names += ("best_epoch", "best_loss", "best_sparsity")
        return {name: getattr(self, name) for name in names}

    # ---- hooks of the trainer -------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Validate after every epoch."""
        trainer.check_val_every_n_epoch = 1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out what there is to prune, and whether the schedule can do it."""
        if trainer.datamodule is not None and not trainer.datamodule.val_dataloader():
            msg = "DASHPruning chooses the model by its validation loss, but nothing is validated; pass train_size=0.9."
            raise ValueError(msg)
        self._forget()
        self._chains = self._find_chains(pl_module.module)
        self._lambdas = [self._lambdas_of(chain) for chain in self._chains]
        for chain, lambdas in zip(self._chains, self._lambdas, strict=True):
            # the recurrence leaves its random start; and a missing prior is an error now, not at the first cut
            chain.score(lambdas, self.scaling)
        if self.target_sparsity is not None and trainer.max_epochs > 0:
            epochs = range(1, trainer.max_epochs + 1)
            left = 1 - self.sparsity
            for epoch in epochs:
                left *= 1 - self.share_cut(epoch, trainer.max_epochs)
            if 1 - left < self.target_sparsity - 1e-9:
                msg = (
                    f"target_sparsity={self.target_sparsity} is not reached: {trainer.max_epochs} epochs of this schedule "
                    f"end at {1 - left:.3f}; raise max_epochs, first or amount, or lower every."
                )
                raise ValueError(msg)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the learning rates training begins with."""
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
        self._schedulers = [copy.deepcopy(c.scheduler.state_dict()) for c in trainer.lr_scheduler_configs]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score and cut."""
        share = self.share_cut(trainer.current_epoch + 1, trainer.max_epochs)
        if self.target_sparsity is not None:
            share = min(share, max(0.0, 1 - (1 - self.target_sparsity) / max(1 - self.sparsity, 1e-12)))
        if share > 0:
            for chain, lambdas in zip(self._chains, self._lambdas, strict=True):
                chain.prune(share, lambdas, self.scaling)
            self._reset_learning_rate(trainer)
        was_eligible, self._is_eligible = self._is_eligible, self._is_eligible or self._can_be_best(trainer, share)
        if self._is_eligible and not was_eligible:
            self.best_epoch, self.best_loss, self._best_state = None, float("inf"), None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the sparsity, remember the best model, stop if it has not become better for long."""
        metrics = trainer.callback_metrics
        loss = float(metrics["validation_loss"]) + float(metrics.get("penalty_validation", 0))
        epoch, sparsity = trainer.current_epoch + 1, self.sparsity
        pl_module.log("sparsity", sparsity, on_step=False, on_epoch=True)
        if loss < self.best_loss:
            self.best_epoch, self.best_loss, self.best_sparsity = epoch, loss, sparsity
            self._best_state = {name: value.detach().clone() for name, value in pl_module.module.state_dict().items()}
            self._best_graphs = [(graph, dict(graph.adjacency_)) for graph in _graphs(trainer)]
        if self._is_eligible and self.patience is not None and self.best_epoch is not None:
            trainer.should_stop = trainer.should_stop or epoch - self.best_epoch >= self.patience

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go back to the best model."""
        if self._best_state is not None:
            pl_module.module.load_state_dict(self._best_state)
            for graph, adjacency in self._best_graphs:
                graph.adjacency_ = adjacency
            self._best_state = None

    # ----------------------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self.best_epoch, self.best_loss, self.best_sparsity = None, float("inf"), None
        self._best_state, self._is_eligible = None, False
        self._chains: list[WeightChain] = []

    def _find_chains(self, module: nn.Module) -> list[WeightChain]:
        if self.chains is not None:
            return self.chains(module)
        if hasattr(module, "weight_chains"):
            return module.weight_chains()
        return [WeightChain((layer,)) for layer in module.modules() if isinstance(layer, nn.Linear)]

    def _lambdas_of(self, chain: WeightChain) -> tuple[float, ...]:
        if isinstance(self.lambdas, int | float):
            return (float(self.lambdas),) * len(chain.layers)
        if len(self.lambdas) != len(chain.layers):
            msg = (
                f"lambdas={self.lambdas} has {len(self.lambdas)} numbers, but the chain has {len(chain.layers)} layers."
            )
            raise ValueError(msg)
        return self.lambdas

    def _can_be_best(self, trainer: Trainer, share: float) -> bool:
        """Whether the model of this epoch counts: since the first cut, or the target is reached, and with all penalties."""
        if any(trainer.global_step < graph.warmup_ for graph in _graphs(trainer)):
            return False
        if getattr(getattr(trainer.lightning_module.module, "shift", None), "dense", False):
            return False  # masks have not started
        if self.target_sparsity is None:
            return share > 0 or trainer.current_epoch + 1 >= self.start
        return self.sparsity >= self.target_sparsity - 1e-3  # cuts are rounded to whole weights

    def _reset_learning_rate(self, trainer: Trainer) -> None:
        for optimizer, rates in zip(trainer.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        for config, state in zip(trainer.lr_scheduler_configs, self._schedulers, strict=True):
            if isinstance(config.scheduler, LambdaLR):  # the plan's course over all steps goes on
                continue
            config.scheduler.load_state_dict(copy.deepcopy(state))


def _graphs(trainer: Trainer) -> list[GraphRegularization]:
    return [callback for callback in trainer.callbacks if isinstance(callback, GraphRegularization)]
