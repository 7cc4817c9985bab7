"""Scales on which treatment effects are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scvi_neuronedit.data._names import unknown_name

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

EFFECT_METHODS = ("mean", "perturbseq")
_CP10K = 1e4


def transform_for_effect(x: NDArray, method: Literal["mean", "perturbseq"]) -> NDArray:
    """Bring cells on the scale on which a treatment effect is averaged.

    Parameters
    ----------
    x
        Cells of shape ``[n_cells, n_genes]``.
    method
        ``"mean"``: as they are. ``"perturbseq"``: counts as ``log2(x + 1)`` of counts per 10,000.

    Returns
    -------
    Array of the shape of ``x``.
    """
    if method not in EFFECT_METHODS:
        raise ValueError(unknown_name("method", method, "the methods", EFFECT_METHODS))
    if method == "mean":
        return x
    return np.log2(x / x.sum(axis=1, keepdims=True).clip(min=1) * _CP10K + 1)
