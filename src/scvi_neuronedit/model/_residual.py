"""What each cell keeps of its own when it is edited."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scvi_neuronedit.edit import CellDraws, LevelDistributions, carry_counts

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import JoinedModalities

_N_LEVEL_CELLS = 5_000
# features with a larger share of zeros than this keep them
_OFTEN = 0.05


class ResidualMixin:
    """Methods that carry what the autoencoder does not explain of a cell over an edit."""

    def _with_residual(
        self, x: NDArray[np.float32], before: NDArray, after: NDArray, draws: CellDraws
    ) -> NDArray[np.float32]:
        """What each cell becomes if it keeps its residual while what is decoded changes."""
        edited = x + (after - before)
        often_zero, levels = self._level_distributions()
        if not (self._has_counts or often_zero.any()):
            return edited
        points, sides = draws(x, 2)
        for head, i in zip(self.module.heads, self.module.columns, strict=True):
            if head.is_count:
                dispersion = head.inverse_dispersion()
                edited[:, i] = carry_counts(x[:, i], before[:, i], after[:, i], points[:, i], dispersion)
        if often_zero.any():
            own = (values[:, often_zero] for values in (x, before, after, points, sides))
            edited[:, often_zero] = levels.carry(*own)
        return edited

    def _partly(
        self, x: NDArray[np.float32], edited: NDArray[np.float32], share: NDArray[np.float32], draws: CellDraws
    ) -> NDArray[np.float32]:
        """Cells moved a share of the way: values that rise from zero, or fall to it, do so in that share of the cells."""
        moved = x + (edited - x) * share
        often_zero, _ = self._level_distributions()
        if not often_zero.any():
            return moved
        jumps = often_zero & ((x <= 0) != (edited <= 0))
        return np.where(jumps, np.where(draws(x)[0] < share, edited, x), moved)

    def _level_distributions(self) -> tuple[NDArray[np.bool_], LevelDistributions | None]:
        """Features that are often zero (but for counts), and how they are distributed around what they are decoded to.

        Found once for a trained model.
        """
        if self.levels_ is None:
            self.levels_ = self._find_levels()
        often_zero, *levels = self.levels_
        return often_zero, LevelDistributions(*levels) if levels else None

    def _find_levels(self) -> tuple[NDArray, ...]:
        often_zero = np.repeat(self.nonnegative_, self.module.widths) & ~self._is_count
        if not often_zero.any():
            return (often_zero,)
        if self.adata is None:
            msg = "the model does not know how its values are distributed, as it was saved during training or by an earlier version; load it with adata."
            raise RuntimeError(msg)
        table = self._table(self.adata)
        rows = self._sample_of_conditions(table)
        values, decoded = (np.empty((len(rows), len(often_zero)), dtype=np.float32) for _ in range(2))
        for where, _, x, size_factor in self._minibatches(table, rows, None, silent=True):
            values[where] = x.numpy()
            decoded[where] = self.module.edit(x, size_factor, {})[0].mean(dim=0).cpu().numpy()
        often_zero &= (values <= 0).mean(axis=0) > _OFTEN
        if not often_zero.any():
            return (often_zero,)
        values = values[:, often_zero]  # one after the other: there may be tens of thousands of features
        decoded = decoded[:, often_zero]
        levels = LevelDistributions.fit(values, decoded)
        return often_zero, *vars(levels).values()

    def _sample_of_conditions(self, adata: AnnData | JoinedModalities) -> NDArray[np.intp]:
        """At most 5,000 cells, evenly from conditions and batches as far as these go: an edit may lead to a rare one."""
        order = np.random.default_rng(0).permutation(adata.n_obs)
        keys = [key for key in map(self._setup_arg, ("condition_key", "batch_key")) if key is not None]
        if keys:  # the first cell of each, then the second, ...
            number = adata.obs.iloc[order].groupby(keys, observed=True).cumcount().to_numpy()
            order = order[np.argsort(number, kind="stable")]
        return np.sort(order[:_N_LEVEL_CELLS])


def draws_by_step(*seed: int) -> defaultdict[Any, CellDraws]:
    """Draws for each step an edit is made of: whether a cell is equal to one before it is counted anew in each.

    Parameters
    ----------
    *seed
        Seed of all of them.
    """
    return defaultdict(partial(CellDraws, *seed))
