"""Prior knowledge of which gene acts on which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scvi_neuronedit.data._names import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def match_prior(prior: ArrayLike | pd.DataFrame, genes: Sequence[str], argument: str = "prior") -> NDArray[np.float32]:
    """Bring a prior into the order of a model's genes.

    Parameters
    ----------
    prior
        Effects, row regulates column, zero where none is known. A DataFrame is matched by its names, which may hold
        more genes than the model; an array must have the order of ``genes``. Or a table of edges: a DataFrame with
        the columns ``source`` and ``target``, and maybe ``weight`` (1 if there is none), in which genes that do not
        occur have no known edge.
    genes
        Names of the model's genes.
    argument
        Name of the argument, for error messages.

    Returns
    -------
    Array of shape ``[n_genes, n_genes]``.
    """
    genes = pd.Index(genes)
    if isinstance(prior, pd.DataFrame) and {"source", "target"} <= set(prior.columns):
        values = _from_edges(prior, genes, argument)
    elif isinstance(prior, pd.DataFrame):
        values = _from_names(prior, genes, argument)
    else:
        values = np.asarray(prior, dtype=np.float32)
        if values.shape != (len(genes), len(genes)):
            msg = f"{argument} has shape {values.shape}; {len(genes)} genes need ({len(genes)}, {len(genes)})."
            raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = f"{argument} holds NaN or infinite values; use 0 where nothing is known."
        raise ValueError(msg)
    if not values.any():
        msg = f"{argument} is zero everywhere: it knows of no effect among the {len(genes)} genes."
        raise ValueError(msg)
    return values


def _from_names(prior: pd.DataFrame, genes: pd.Index, argument: str) -> NDArray[np.float32]:
    for side, names in (("rows", prior.index), ("columns", prior.columns)):
        if not names.is_unique:
            msg = f"{argument} has more than one of the {side} {listed(names[names.duplicated()].unique().tolist())}."
            raise ValueError(msg)
        if missing := [gene for gene in genes if gene not in names]:
            msg = f"the {side} of {argument} lack {len(missing)} of {len(genes)} genes: {listed(missing)}."
            raise ValueError(msg)
    return prior.loc[genes, genes].to_numpy(dtype=np.float32)


def _from_edges(edges: pd.DataFrame, genes: pd.Index, argument: str) -> NDArray[np.float32]:
    rows, columns = genes.get_indexer(edges["source"]), genes.get_indexer(edges["target"])
    known = (rows >= 0) & (columns >= 0)
    values = np.zeros((len(genes), len(genes)), dtype=np.float32)
    weights = edges["weight"].to_numpy(dtype=np.float32) if "weight" in edges else np.ones(len(edges), np.float32)
    values[rows[known], columns[known]] = weights[known]
    return values
