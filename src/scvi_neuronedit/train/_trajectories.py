"""Minibatches of consecutive points of trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from scvi import settings
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from scvi_neuronedit.train._plan import EpochTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from scvi.data import AnnDataManager


class PairSplitter(LightningDataModule):
    """Splits trajectories into those trained on and those validated on, and loads pairs of consecutive points.

    Of three or more trajectories whole ones are set aside, of fewer single pairs.

    Parameters
    ----------
    adata_manager
        Not used; scvi-tools passes it.
    values
        Expression of shape ``[n_rows, n_genes]``.
    times
        Times of shape ``[n_rows]``.
    trajectories
        Rows of each trajectory, sorted by time.
    train_size
        Share trained on. 0.9 if ``None``.
    validation_size
        Share validated on. The rest if ``None``.
    batch_size
        Number of pairs in a minibatch.
    shuffle_set_split
        Whether to draw what is set aside. Otherwise it is what comes last.
    external_indexing
        Rows to train on and rows to validate on, instead. A pair needs both of its points.
    **kwargs
        Not used; scvi-tools passes it.
    """

    def __init__(
        self,
        adata_manager: AnnDataManager,
        *,
        values: NDArray[np.float32],
        times: NDArray[np.float64],
        trajectories: Sequence[NDArray[np.intp]],
        train_size: float | None = None,
        validation_size: float | None = None,
        batch_size: int = 32,
        shuffle_set_split: bool = True,
        external_indexing: Sequence[NDArray[np.intp]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.values, self.times = torch.from_numpy(values), np.asarray(times, dtype=float)
        pairs = np.concatenate([np.stack([rows[:-1], rows[1:]], axis=1) for rows in trajectories])
        if external_indexing is not None:
            sets = [np.asarray(rows) for rows in external_indexing]
            chosen = [np.isin(pairs, rows).all(axis=1) for rows in (*sets, [], [])[:3]]
        else:
            train_size = 0.9 if train_size is None else train_size
            validation_size = 1 - train_size if validation_size is None else validation_size
            _check_sizes(train_size, validation_size)
            by_trajectory = len(trajectories) >= 3
            unit = np.repeat(np.arange(len(trajectories)), [len(rows) - 1 for rows in trajectories])
            unit = unit if by_trajectory else np.arange(len(pairs))
            chosen = _split(unit, train_size, validation_size, shuffle=shuffle_set_split)
        self.train_pairs, self.val_pairs, self.test_pairs = (pairs[mask] for mask in chosen)
        if not len(self.train_pairs):
            msg = "no pair of consecutive points is left to train on; raise train_size, or check the rows given."
            raise ValueError(msg)
        self.train_idx, self.val_idx, self.test_idx = (
            np.unique(rows) for rows in (self.train_pairs, self.val_pairs, self.test_pairs)
        )
        self.n_train, self.n_val = len(self.train_pairs), len(self.val_pairs)

    def train_dataloader(self) -> DataLoader:
        """Pairs to train on, in another order each time."""
        return self._loader(self.train_pairs, RandomSampler)

    def val_dataloader(self) -> DataLoader | None:
        """Pairs to validate on; ``None`` if there are none."""
        return self._loader(self.val_pairs, SequentialSampler) if self.n_val else []

    def _loader(self, pairs: NDArray[np.intp], sampler: type) -> DataLoader:
        first, second = pairs.T
        durations = torch.from_numpy((self.times[second] - self.times[first]).astype(np.float32))
        dataset = _Pairs(self.values, torch.from_numpy(first), torch.from_numpy(second), durations)
        batches = BatchSampler(sampler(dataset), self.batch_size or settings.batch_size, drop_last=False)
        return DataLoader(dataset, sampler=batches, batch_size=None)


class _Pairs(Dataset):
    """Whole minibatches at once: each index is a list of pairs."""

    def __init__(
        self, values: torch.Tensor, first: torch.Tensor, second: torch.Tensor, durations: torch.Tensor
    ) -> None:
        self.values, self.first, self.second, self.durations = values, first, second, durations

    def __len__(self) -> int:
        return len(self.durations)

    def __getitem__(self, pairs: list[int]) -> dict[str, torch.Tensor]:
        return {
            "start": self.values[self.first[pairs]],
            "end": self.values[self.second[pairs]],
            "duration": self.durations[pairs],
        }


class RegulatoryTrainingPlan(EpochTrainingPlan):
    """The training plan of regulatory dynamics: their gene multipliers learn faster than the other parameters.

    Parameters
    ----------
    module
        Module with ``parameter_groups``.
    **kwargs
        As for :class:`scvi.train.TrainingPlan`.
    """

    def get_optimizer_creator(self) -> Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]:
        """The optimizer of :class:`~scvi_neuronedit.train.EpochTrainingPlan`, a learning rate for each group."""
        create = super().get_optimizer_creator()
        return lambda _: create(self.module.parameter_groups(self.lr))


def _check_sizes(train_size: float, validation_size: float) -> None:
    if not 0 < train_size <= 1 or not 0 <= validation_size <= 1 - train_size + 1e-9:
        msg = (
            f"train_size={train_size}, validation_size={validation_size}; they must be shares with a sum of at most 1."
        )
        raise ValueError(msg)


def _split(
    unit: NDArray[np.intp], train_size: float, validation_size: float, *, shuffle: bool
) -> list[NDArray[np.bool_]]:
    """Masks of the pairs whose units (trajectories, or the pairs themselves) are trained, validated and tested on."""
    units = np.unique(unit)
    if shuffle:
        units = np.random.default_rng(settings.seed).permutation(units)
    n_train = min(round(train_size * len(units)), len(units) - (1 if validation_size > 0 else 0))
    n_train = max(n_train, 1)
    n_val = min(round(validation_size * len(units)) or int(validation_size > 0), len(units) - n_train)
    parts = np.split(units, [n_train, n_train + n_val])
    return [np.isin(unit, part) for part in parts]
