"""Random numbers for cells that are reproducible cell by cell."""

from __future__ import annotations

import zlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CellDraws:
    """Uniform random numbers for every value of a cell.

    They depend on the cell's values, on a seed, and on how many equal cells came before it: a cell gets the same ones in whatever
    company it comes, and equal cells get different ones.

    Parameters
    ----------
    *seed
        Seed, or several numbers that are one together.
    """

    def __init__(self, *seed: int) -> None:
        self._seed = seed
        self._n_seen: Counter[int] = Counter()

    def __call__(self, cells: NDArray, n_draws: int = 1) -> NDArray[np.float64]:
        """Numbers from 0 to 1, of shape ``[n_draws, n_cells, n_features]``.

        Parameters
        ----------
        cells
            Values of shape ``[n_cells, n_features]``.
        n_draws
            How many numbers every value gets.
        """
        drawn = np.empty((n_draws, *cells.shape))
        for i, cell in enumerate(np.ascontiguousarray(cells, dtype=np.float32)):
            key = zlib.crc32(cell)
            drawn[:, i] = np.random.default_rng((*self._seed, key, self._n_seen[key])).random((n_draws, len(cell)))
            self._n_seen[key] += 1
        return drawn
