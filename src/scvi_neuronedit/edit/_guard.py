"""Which features a correction is applied to, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scvi_neuronedit.edit._scores import feature_emd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def signal_share(
    pairs: Sequence[tuple[NDArray, NDArray]], *, n_permutations: int = 20, random_state: int = 0
) -> NDArray[np.float64]:
    r"""Share of each feature's difference between samples that is not noise of sampling.

    :math:`\max(0, 1 - (e_0 / e)^2)` with :math:`e` the feature's earth mover's distance between two samples of the same
    control and :math:`e_0` its mean where the cells are shuffled between the two: the positive-part shrinkage of James
    and Stein (1961). It is 0 where the samples differ by no more than two halves of one sample would.

    Parameters
    ----------
    pairs
        The two samples of every control, of shapes ``[n_cells, n_features]``; distances are averaged over controls.
    n_permutations
        How often cells are shuffled.
    random_state
        Seed.

    Returns
    -------
    Array of shape ``[n_features]``, between 0 and 1.
    """
    rng = np.random.default_rng(random_state)
    observed = np.mean([feature_emd(x, y) for x, y in pairs], axis=0)
    noise = np.zeros_like(observed)
    for x, y in pairs:
        cells = np.concatenate([x, y])
        for _ in range(n_permutations):
            first, second = np.split(rng.permutation(len(cells)), [len(x)])
            noise += feature_emd(cells[first], cells[second]) / (n_permutations * len(pairs))
    ratio = np.divide(noise, observed, out=np.ones_like(noise), where=observed > 0)
    return np.maximum(0, 1 - ratio**2)
