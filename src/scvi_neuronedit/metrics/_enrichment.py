"""Known gene sets among the perturbations that shift a latent variable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def latent_enrichment(
    effects: pd.DataFrame, gene_sets: Mapping[str, Collection[str]], threshold: float = 0.5
) -> pd.DataFrame:
    """Test whether the perturbations that share a latent variable belong to a gene set more often than others.

    A one-sided Fisher test for each latent variable and gene set with at least two perturbations each; the universe is the
    perturbations of the model.

    Parameters
    ----------
    effects
        As ``get_perturbation_effects`` of a model returns them.
    gene_sets
        Names of perturbations by gene set, such as pathways; others are left out.
    threshold
        Inclusion probability above which a perturbation shifts a latent variable.

    Returns
    -------
    Sorted by ``p_value``: ``latent``, ``gene_set``, ``n_latent`` and ``n_set`` (perturbations of each), ``n_both``,
    ``p_value`` and ``q_value`` (Benjamini-Hochberg).
    """
    universe = set(effects["perturbation"])
    chosen = effects[effects["inclusion_probability"] > threshold]
    shifted = {latent: set(rows["perturbation"]) for latent, rows in chosen.groupby("latent")}
    sets = {name: universe & set(members) for name, members in gene_sets.items()}
    rows = []
    for latent, a in shifted.items():
        for name, b in sets.items():
            if min(len(a), len(b)) >= 2:
                n_both = len(a & b)
                p_value = stats.hypergeom.sf(n_both - 1, len(universe), len(b), len(a))
                rows.append((latent, name, len(a), len(b), n_both, p_value))
    table = pd.DataFrame(rows, columns=["latent", "gene_set", "n_latent", "n_set", "n_both", "p_value"])
    table["q_value"] = stats.false_discovery_control(table["p_value"]) if len(table) else table["p_value"]
    return table.sort_values("p_value", ignore_index=True)
