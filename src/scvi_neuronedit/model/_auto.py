"""``method="auto"``: choose how to edit on groups of cells left out of learning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scvi_neuronedit.edit import (
    NO_EDIT,
    Candidate,
    choose_candidate,
    leave_group_out,
    random_folds,
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
# not "gaussian": an affine map extrapolates without bound, which groups inside the range of the others do not show
CANDIDATES = (
    NO_EDIT,
    Candidate("mean", _CODE),
    Candidate("percentile", _CODE),
    Candidate("neighbor", _CODE),
    Candidate("pairs", _CODE),
    Candidate("group", _CODE),
    Candidate("percentile", _BOTH),
    Candidate("neighbor", _BOTH),
    Candidate("group", _BOTH),
    Candidate("group_gaussian", _CODE),
    Candidate("group_gaussian, group", _BOTH),
)
PREFERRED = "group"
STRENGTHS = (0.5, 0.75)
N_CELLS_PER_GROUP = 200
N_FOLDS = 5


def refuse_parameters(params: dict[str, Any]) -> None:
    """Refuse parameters of a map beside ``method="auto"``.

    Parameters
    ----------
    params
        What was passed.
    """
    if params:
        msg = f"method='auto' has no parameter {next(iter(params))!r}; name the map it belongs to."
        raise TypeError(msg)


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

    Groups are the labels: what is asked for is a label never seen after the change. Where fewer than two labels have 20
    cells on both sides, they are random fifths of the cells: what is asked for are more cells of the same kinds. At most
    200 source and 200 target cells of each of at most 10 groups are used. First every map is tried on every choice of
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
    default_layers = _BOTH if model._edits_expression("output") else _CODE
    preferred = Candidate(PREFERRED, tuple(layers) or default_layers)
    sample = sample_populations(populations, random_state)
    if sample is None:
        return _learn(model, adata, populations, preferred, batch_size)

    def learn(candidate: Candidate, cells: Populations) -> Edit:
        return _learn(model, adata, cells, candidate, batch_size)

    cells, groups = sample

    def predict(candidate: Candidate, in_source: NDArray, in_target: NDArray) -> NDArray:
        edit = learn(candidate, cells.leave_out(in_source, in_target)).scale(candidate.strength)
        return model._comparable(adata, cells.source[in_source], edit, batch_size=batch_size)

    control, truth = (model._comparable(adata, rows, batch_size=batch_size) for rows in (cells.source, cells.target))
    arguments = control, truth, *groups, predict
    scores = leave_group_out(*arguments, _candidates(layers, counts=not model._edits_expression("output")))
    best = choose_candidate(scores, preferred)
    if best != NO_EDIT:
        weaker = leave_group_out(*arguments, [replace(best, strength=strength) for strength in STRENGTHS])
        scores = pd.concat([scores, weaker], ignore_index=True)
        best = choose_candidate(scores, best)
    edit = learn(preferred, populations).scale(0) if best == NO_EDIT else learn(best, populations).scale(best.strength)
    return replace(edit, info={**edit.info, "selection": summarize_scores(scores).to_dict("records")})


def sample_populations(
    populations: Populations, random_state: int
) -> tuple[Populations, tuple[NDArray, NDArray]] | None:
    """Some source and target cells of each group that can be left out, and the group of each of them.

    ``None`` where there are too few cells for two groups.

    Parameters
    ----------
    populations
        The cells.
    random_state
        Seed.
    """
    groups = populations.source_groups, populations.target_groups
    if groups[0] is None or len(usable_groups(*groups)) < 2:
        groups = random_folds(len(populations.source), len(populations.target), N_FOLDS, random_state)
    kept = usable_groups(*groups)
    if len(kept) < 2:
        return None
    rng = np.random.default_rng(random_state)
    rows = [sample_groups(side, kept, N_CELLS_PER_GROUP, rng) for side in groups]
    some = populations.subset(*rows)
    if some.unpaired is not None:
        cells, labels = some.unpaired
        rows_alone = sample_groups(labels, np.unique(labels), N_CELLS_PER_GROUP, rng)
        some = replace(some, unpaired=(cells[rows_alone], labels[rows_alone]))
    return some, (groups[0][rows[0]], groups[1][rows[1]])


def _learn(model: NeuronEdit, adata: AnnData, cells: Populations, candidate: Candidate, batch_size: int | None) -> Edit:
    methods = candidate.method.split(", ")
    methods = methods * len(candidate.layers) if len(methods) == 1 else methods
    return model._learn(adata, cells, methods, candidate.layers, batch_size=batch_size)


def _candidates(layers: Sequence[str], *, counts: bool) -> list[Candidate]:
    if layers:
        methods = dict.fromkeys(candidate.method for candidate in CANDIDATES if len(candidate.layers) == 1)
        return [NO_EDIT, *(Candidate(method, tuple(layers)) for method in methods)]
    # the expression itself can only be edited where it is not counts
    return [candidate for candidate in CANDIDATES if not (counts and candidate.layers == _BOTH)]
