"""Simulated single-cell data with known truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Collection


def simulate_conditions(
    n_cells: int = 3000,
    n_genes: int = 1000,
    n_types: int = 6,
    *,
    type_specificity: float = 0.5,
    non_responders: Collection[str] = (),
    random_state: int = 0,
) -> AnnData:
    """Counts of several cell types with and without a stimulus, whose effect differs by type and by cell.

    The expected counts of a cell are its library size (log-normal, median 3,000) times a softmax over genes of: the
    gene's level, the markers of its cell type and of the lineage that type belongs to, three programs shared by all
    types along which cells vary, and, in stimulated cells, the response. Types fall into two lineages in turn (type 1,
    3, ... and type 2, 4, ...). A response is made of a part common to all cells, a part common to the lineage and a
    part of the type's own; how strongly a cell responds also varies with its position along the first program. Counts
    are negative binomial with one dispersion per gene.

    Parameters
    ----------
    n_cells
        Number of cells, spread evenly over the conditions and unevenly over the types.
    n_genes
        Number of genes.
    n_types
        Number of cell types, named ``"type_1"``, ``"type_2"``, ...
    type_specificity
        Share of the response, between 0 and 1, that is not common to all types: four fifths of it are the lineage's,
        one fifth the type's own. At 0 a cell responds in the same way whatever its type.
    non_responders
        Types that do not respond at all.
    random_state
        Seed.

    Returns
    -------
    AnnData of shape ``[n_cells, n_genes]`` with counts in ``X`` (CSR), ``obs["condition"]`` (``"ctrl"``, ``"stim"``),
    ``obs["cell_type"]``, and the truth in ``layers["mean_ctrl"]`` and ``layers["mean_stim"]``: the expected counts of
    every cell without and with the stimulus.
    """
    types = [f"type_{k + 1}" for k in range(n_types)]
    if unknown := sorted(set(non_responders) - set(types)):
        msg = f"non_responders {unknown} are not among the simulated types ({', '.join(types)})."
        raise ValueError(msg)
    if not 0 <= type_specificity <= 1:
        msg = f"type_specificity={type_specificity}; it must lie between 0 and 1."
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)

    lineage = np.arange(n_types) % 2
    level = rng.normal(0, 1.3, n_genes)
    markers = _markers(rng, 2, n_genes)[lineage] + 0.7 * _markers(rng, n_types, n_genes)
    programs = rng.normal(0, 0.4, (3, n_genes)) * (rng.random((3, n_genes)) < 0.2)
    common, of_lineage, own = (
        _responses(rng, 1, n_genes),
        _responses(rng, 2, n_genes),
        _responses(rng, n_types, n_genes),
    )
    response = (1 - type_specificity) * common + type_specificity * (0.8 * of_lineage[lineage] + 0.2 * own)
    response[[types.index(name) for name in non_responders]] = 0
    inverse_dispersion = rng.lognormal(1.0, 0.5, n_genes)

    cell_type = rng.choice(n_types, n_cells, p=_type_shares(n_types))
    stimulated = rng.permutation(n_cells) < n_cells // 2
    position = rng.normal(0, 1, (n_cells, 3))
    library = rng.lognormal(np.log(3000), 0.35, (n_cells, 1))
    receptiveness = 0.5 + 1 / (1 + np.exp(-2 * position[:, :1]))

    log_rate = level + markers[cell_type] + position @ programs
    mean_ctrl = library * _softmax(log_rate)
    mean_stim = library * _softmax(log_rate + receptiveness * response[cell_type])
    mean = np.where(stimulated[:, None], mean_stim, mean_ctrl)
    counts = rng.negative_binomial(inverse_dispersion, inverse_dispersion / (inverse_dispersion + mean))

    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(np.where(stimulated, "stim", "ctrl")),
            "cell_type": pd.Categorical.from_codes(cell_type, types),
        },
        index=[f"cell_{i + 1}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"gene_{j + 1}" for j in range(n_genes)])
    layers = {"mean_ctrl": mean_ctrl.astype(np.float32), "mean_stim": mean_stim.astype(np.float32)}
    return AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var, layers=layers)


def _markers(rng: np.random.Generator, n_groups: int, n_genes: int) -> np.ndarray:
    """Log fold changes of groups: a gene in seven marks each."""
    return rng.normal(0, 1.2, (n_groups, n_genes)) * (rng.random((n_groups, n_genes)) < 0.15)


def _responses(rng: np.random.Generator, n_groups: int, n_genes: int) -> np.ndarray:
    """Log fold changes of groups: one gene in ten responds, four in five of them upwards."""
    responds = rng.random((n_groups, n_genes)) < 0.1
    direction = np.where(rng.random((n_groups, n_genes)) < 0.8, 1, -1)
    return responds * direction * rng.gamma(2, 0.7, (n_groups, n_genes))


def _type_shares(n_types: int) -> np.ndarray:
    shares = np.linspace(2, 1, n_types)
    return shares / shares.sum()


def _softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)
