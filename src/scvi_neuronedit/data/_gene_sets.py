"""Gene sets: named programs of genes that belong together."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from scvi import settings

from scvi_neuronedit.data._names import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIN_GENES = 3


def read_gmt(path: str | os.PathLike) -> dict[str, list[str]]:
    """Read gene sets from a GMT file: on each line a name, a description and the genes, separated by tabs.

    Parameters
    ----------
    path
        File to read.
    """
    sets = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = [gene.strip() for gene in rest[1:] if gene.strip()]
        if not genes:
            msg = f"line {number} of {path} is not a gene set: it needs a name, a description and genes, between tabs."
            raise ValueError(msg)
        if name in sets:
            msg = f"{path} holds more than one gene set {name!r}."
            raise ValueError(msg)
        sets[name] = genes
    return sets


def match_gene_sets(
    gene_sets: Mapping[str, Sequence[str]] | str | os.PathLike, features: Sequence[str]
) -> dict[str, list[str]]:
    """Gene sets with those of their genes that are among some features.

    Parameters
    ----------
    gene_sets
        Mapping of names to genes, or a GMT file.
    features
        Names of the features.

    Returns
    -------
    The sets of at least three such genes, in their order; others are left out with a warning.
    """
    sets = read_gmt(gene_sets) if isinstance(gene_sets, str | os.PathLike) else dict(gene_sets)
    known = set(features)
    matched = {str(name): [gene for gene in dict.fromkeys(genes) if gene in known] for name, genes in sets.items()}
    small = [name for name, genes in matched.items() if len(genes) < MIN_GENES]
    if len(small) == len(matched):
        msg = (
            f"gene_programs: none of the {len(matched)} gene sets ({listed(list(matched))}) has at least {MIN_GENES} genes "
            f"among the {len(known)} features; check that both use the same kind of names."
        )
        raise ValueError(msg)
    if small:
        msg = f"gene sets with fewer than {MIN_GENES} genes among the features are left out: {listed(small)}."
        warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
    return {name: genes for name, genes in matched.items() if name not in small}
