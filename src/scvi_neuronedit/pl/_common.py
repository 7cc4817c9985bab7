"""What the plots share: a check, a scale, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def check_column(adata: AnnData, argument: str, column: str | None) -> None:
    """Refuse a column that ``adata.obs`` does not have; ``None`` if there is none to check."""
    if column is not None and column not in adata.obs:
        msg = f"{argument}={column!r} is not in adata.obs ({', '.join(map(str, adata.obs.columns))})."
        raise KeyError(msg)


def standardized(values: NDArray, cells: NDArray) -> NDArray:
    """Values ``[..., n_neurons]`` in standard deviations from the mean of cells ``[n_cells, n_neurons]``."""
    sd = cells.std(axis=0)
    return (values - cells.mean(axis=0)) / np.where(sd > 0, sd, 1)


def finish(figure: Figure, show: bool, save: str | PathLike | None) -> None:
    """Save and show a figure, where asked for."""
    if save is not None:
        figure.savefig(save, dpi=150)
    if show:
        plt.show()
