"""Begin the training of SAMS-VAE without sparsity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from typing import Any

    from lightning.pytorch import LightningModule, Trainer


class DenseStart(Callback):
    """Trains with all masks 1 for a number of steps, then turns the latent space to where shifts are sparsest.

    Whether a shift is sparse depends on the directions that are called latent variables; until encoder and decoder fit, the data
    do not prefer any. So first the model without masks (CPA-VAE) is trained, then
    :meth:`~scvi_neuronedit.module.PerturbationModule.start_masks` finds the directions and starts the masks, then all is
    trained. The optimizer forgets its moments, which belong to the old directions.

    Parameters
    ----------
    share
        Share of the training steps that are without masks, above 0 and at most 1.
    """

    def __init__(self, share: float = 0.3) -> None:
        if not 0 < share <= 1:
            msg = f"share={share}; it must be above 0 and at most 1."
            raise ValueError(msg)
        self.share = share

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set all masks to 1, unless training is resumed, when the state says whether they are."""
        self._last = self.share * trainer.estimated_stepping_batches
        if trainer.global_step == 0:
            pl_module.module.shift.start_dense()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the masks when it is time."""
        if trainer.global_step >= self._last:
            self._end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the masks if training ended early."""
        self._end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Start the masks if training was cut off."""
        self._end(trainer, pl_module)

    @staticmethod
    def _end(trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.module.shift.dense:
            pl_module.module.start_masks()
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
