"""How much to trust the prior, by cross-validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike
    from scvi.model.base import BaseModelClass

    from scvi_neuronedit.train._pruning import DASHPruning


def cross_validate_lambdas(
    create_model: Callable[[], BaseModelClass],
    pruning: DASHPruning,
    grid: Sequence[float | Sequence[float]],
    groups: ArrayLike,
    *,
    n_folds: int = 3,
    random_state: int = 0,
    **train_kwargs: Any,
) -> pd.DataFrame:
    """Train with each weight of the prior on all folds but one, and validate on that one.

    Parameters
    ----------
    create_model
        Function that returns a new, untrained model of this package.
    pruning
        Schedule; its own ``lambdas`` are not used.
    grid
        Values of ``lambdas`` to try.
    groups
        Group of each row of the model's AnnData, such as its trajectory or donor. Groups stay together.
    n_folds
        Number of folds.
    random_state
        Seed of the folds.
    **train_kwargs
        Passed to the model's ``train``.

    Returns
    -------
    A row for each value, best first: ``lambdas``, mean ``validation_loss`` of the best epoch over folds, its standard
    error ``sem``, mean ``sparsity`` and ``epoch``.
    """
    groups = np.asarray(groups)
    if len(np.unique(groups)) < n_folds:
        msg = f"n_folds={n_folds}, but there are only {len(np.unique(groups))} groups."
        raise ValueError(msg)
    if not len(grid):
        msg = "grid is empty; give at least one value of lambdas."
        raise ValueError(msg)
    folds = list(GroupKFold(n_folds, shuffle=True, random_state=random_state).split(groups, groups=groups))
    rows = []
    for lambdas in grid:
        for train_rows, validation_rows in folds:
            trial = pruning.with_lambdas(lambdas)
            indexing = {"external_indexing": [train_rows, validation_rows]}
            create_model().train(pruning=trial, datasplitter_kwargs=indexing, **train_kwargs)
            row = {"lambdas": trial.lambdas, "validation_loss": trial.best_loss}
            rows.append({**row, "sparsity": trial.best_sparsity, "epoch": trial.best_epoch})
    results = pd.DataFrame(rows).groupby("lambdas", sort=False)
    table = results[["validation_loss", "sparsity", "epoch"]].mean()
    table.insert(1, "sem", results["validation_loss"].sem())
    return table.sort_values("validation_loss").reset_index()
