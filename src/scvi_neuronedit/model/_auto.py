"""``method="auto"``: choose how to edit on groups of cells left out of learning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scvi_neuronedit.edit import (
    NO_EDIT,
    Candidate,
    choose_candidate,
    find_groups,
    leave_group_out,
    sample_groups,
    summarize_scores,
    usable_groups,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Populations
    from scvi_neuronedit.edit import Edit
    from scvi_neuronedit.model._neuronedit import NeuronEdit

_CODE, _BOTH = ("code",), ("code", "output")
CANDIDATES = (
    NO_EDIT,
    Candidate("mean", _CODE),
    Candidate("gaussian", _CODE),
    Candidate("percentile", _CODE),
    Candidate("neighbor", _CODE),
    Candidate("pairs", _CODE),
    Candidate("group", _CODE),
    Candidate("percentile", _BOTH),
    Candidate("neighbor", _BOTH),
    Candidate("group", _BOTH),
)
PREFERRED = "group"
STRENGTHS = (0.5, 0.75)
N_CELLS_PER_GROUP = 200
N_CLUSTERS = 6


def choose_edit(
    model: NeuronEdit,
    adata: AnnData,
    populations: Populations,
    layers: Sequence[str],
    *,
    random_state: int,
    batch_size: int | None,
) -> Edit:
    """Learn the edit that predicts left-out groups best.

    Groups are the labels, or clusters of the code where fewer than two labels have 20 cells on both sides. At most 200
    source and 200 target cells of each of at most 10 groups are used. First every map is tried on every choice of
    layers, then the best at half and at three quarters of its strength. The ``"group"`` map of code and output is taken
    unless another is better beyond noise, also where there are too few groups to try anything on; see
    :func:`~scvi_neuronedit.edit.choose_candidate`.

    Parameters
    ----------
    model
        A :class:`~scvi_neuronedit.NeuronEdit`.
    adata, populations
        The cells.
    layers
        Layers to edit; empty if they are to be chosen too.
    random_state
        Seed of the cells that are used.
    batch_size
        Number of cells in a minibatch.
    """
    default_layers = _CODE if model._is_count_model else _BOTH
    preferred = Candidate(PREFERRED, tuple(layers) or default_layers)
    sample = sample_populations(model, adata, populations, random_state, batch_size)
    if sample is None:
        return model._learn(adata, populations, preferred.method, preferred.layers, batch_size=batch_size)

    def learn(candidate: Candidate, cells: Populations) -> Edit:
        return model._learn(adata, cells, candidate.method, candidate.layers, batch_size=batch_size)

    def predict(candidate: Candidate, in_source: NDArray, in_target: NDArray) -> NDArray:
        edit = learn(candidate, sample.subset(~in_source, ~in_target)).scale(candidate.strength)
        return model._comparable(adata, sample.source[in_source], edit, batch_size=batch_size)

    control, truth = (model._comparable(adata, rows, batch_size=batch_size) for rows in (sample.source, sample.target))
    arguments = control, truth, sample.source_groups, sample.target_groups, predict
    scores = leave_group_out(*arguments, _candidates(layers, counts=model._is_count_model))
    best = choose_candidate(scores, preferred)
    if best != NO_EDIT:
        weaker = leave_group_out(*arguments, [replace(best, strength=strength) for strength in STRENGTHS])
        scores = pd.concat([scores, weaker], ignore_index=True)
        best = choose_candidate(scores, best)
    edit = learn(preferred, populations).scale(0) if best == NO_EDIT else learn(best, populations).scale(best.strength)
    return replace(edit, info={**edit.info, "selection": summarize_scores(scores).to_dict("records")})


def sample_populations(
    model: NeuronEdit, adata: AnnData, populations: Populations, random_state: int, batch_size: int | None
) -> Populations | None:
    """Some source and target cells of each group that can be left out, or ``None`` if there are fewer than two groups.

    Parameters
    ----------
    model
        A :class:`~scvi_neuronedit.NeuronEdit`.
    adata, populations
        The cells.
    random_state
        Seed.
    batch_size
        Number of cells in a minibatch.
    """
    groups = populations.source_groups, populations.target_groups
    if groups[0] is None or len(usable_groups(*groups)) < 2:
        rows = populations.source, populations.target
        codes = (model._states(adata, side, "code", batch_size=batch_size) for side in rows)
        groups = find_groups(*codes, N_CLUSTERS, random_state)
    kept = usable_groups(*groups)
    if len(kept) < 2:
        return None
    rng = np.random.default_rng(random_state)
    rows = [sample_groups(side, kept, N_CELLS_PER_GROUP, rng) for side in groups]
    sample = populations.subset(*rows)
    return replace(sample, source_groups=groups[0][rows[0]], target_groups=groups[1][rows[1]])


def _candidates(layers: Sequence[str], *, counts: bool) -> list[Candidate]:
    if layers:
        methods = dict.fromkeys(candidate.method for candidate in CANDIDATES if candidate != NO_EDIT)
        return [NO_EDIT, *(Candidate(method, tuple(layers)) for method in methods)]
    # the expression itself can only be edited where it is not counts
    return [candidate for candidate in CANDIDATES if not (counts and candidate.layers == _BOTH)]
