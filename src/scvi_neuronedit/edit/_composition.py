"""Weights that give two populations the same composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def composition_weights(
    source_labels: ArrayLike, target_labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of source and target cells under which both hold every label in the same share.

    An edit learnt between populations of different composition learns the composition. The common share of a label
    is proportional to the smaller of its two counts, so no cell weighs more than it would in a random subsample of
    the larger side down to the smaller one. Cells whose label is missing on the other side weigh nothing.

    Parameters
    ----------
    source_labels
        Labels of the source cells, of shape ``[n_source]``.
    target_labels
        Labels of the target cells, of shape ``[n_target]``.

    Returns
    -------
    Weights of shapes ``[n_source]`` and ``[n_target]``, each scaled to a mean of 1 over the cells that take part.
    All zero if no label is shared.
    """
    source_labels, target_labels = np.asarray(source_labels), np.asarray(target_labels)
    labels = np.unique(np.concatenate([source_labels, target_labels]))
    source_code, target_code = np.searchsorted(labels, source_labels), np.searchsorted(labels, target_labels)
    n_source = np.bincount(source_code, minlength=len(labels))
    n_target = np.bincount(target_code, minlength=len(labels))
    n_common = np.minimum(n_source, n_target)

    def weights(code: NDArray, n_cells: NDArray) -> NDArray:
        weight = np.divide(n_common, n_cells, out=np.zeros(len(labels)), where=n_cells > 0)[code]
        taking_part = weight > 0
        return weight / weight[taking_part].mean() if taking_part.any() else weight

    return weights(source_code, n_source), weights(target_code, n_target)
