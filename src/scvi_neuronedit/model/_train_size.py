"""How many cells are trained on where nobody says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scvi.train import SaveCheckpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_WATCHING = ("early_stopping", "enable_checkpointing", "learning_rate_monitor")
_GIVEN = ("check_val_every_n_epoch", "validation_size")


def default_train_size(arguments: Mapping[str, Any]) -> float:
    """Share of the cells to train on: 0.9 where the trainer of scvi-tools will look at the others, or all.

    Parameters
    ----------
    arguments
        What is passed to ``train``.
    """
    looks = (
        any(arguments.get(name) for name in _WATCHING)
        or any(arguments.get(name) is not None for name in _GIVEN)
        or any(isinstance(callback, SaveCheckpoint) for callback in arguments.get("callbacks") or ())
    )
    return 0.9 if looks else 1.0
