"""Learning an edit again on other samples of its cells: what its uncertainty is estimated from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scvi_neuronedit.data import fingerprint_cells, select_populations
from scvi_neuronedit.model._auto import sample_populations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Populations
    from scvi_neuronedit.edit import Edit


class ResamplingMixin:
    """Methods that learn an edit again on bootstrap samples, and without a group of cells."""

    def _populations_of(self, edit: Edit) -> Populations:
        """The cells an edit was learnt on."""
        if "selection_source" not in edit.info or "chain" in edit.info:
            msg = "edit must come from learn_edit, not chained: only then it can be learnt again on other samples."
            raise ValueError(msg)
        if self.adata is None or edit.info["cells"] != fingerprint_cells(self.adata):
            msg = "edit was learnt on cells that are not the model's own; its effect cannot be estimated."
            raise ValueError(msg)
        return select_populations(
            self.adata,
            edit.info["selection_source"],
            edit.info["selection_target"],
            condition_key=self._setup_arg("condition_key"),
            labels_key=edit.info.get("match_key"),
            warn=False,
        )

    def _replicates(self, edit: Edit, n_replicates: int, random_state: int, batch_size: int | None) -> list[Edit]:
        """The edit learnt again on bootstrap samples of its cells, each with the next one of the networks."""
        if n_replicates < 2:
            msg = f"n_bootstrap={n_replicates}; it must be at least 2."
            raise ValueError(msg)
        populations, rng = self._populations_of(edit), np.random.default_rng(random_state)
        n_networks = len(self.module.networks)
        return [
            self._relearn(edit, _bootstrap(populations, rng), batch_size, number=i % n_networks + 1)
            for i in range(n_replicates)
        ]

    def _relearn(self, edit: Edit, populations: Populations, batch_size: int | None, number: int | None = None) -> Edit:
        """The edit learnt on other cells, of all networks or of the one with this number."""
        steps = [step for step in edit.steps if number is None or step.layer.partition("/")[2] in ("", str(number))]
        maps, layers = [step.map for step in steps], [step.layer for step in steps]
        again = self._learn(self._table(self.adata), populations, maps, layers, batch_size=batch_size)
        return again.scale(edit.steps[0].strength)

    def _left_out_groups(
        self, edit: Edit, random_state: int, batch_size: int | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predicted and true change of every left-out group's mean, each of shape ``[n_groups, n_features]``."""
        sample = sample_populations(self._populations_of(edit), random_state)
        if sample is None:
            return np.empty((0, len(self.var_names_))), np.empty((0, len(self.var_names_)))
        cells, (source_groups, target_groups) = sample
        adata = self._table(self.adata)
        predicted, true = [], []
        for group in np.unique(source_groups):
            in_source, in_target = source_groups == group, target_groups == group
            learnt = self._relearn(edit, cells.leave_out(in_source, in_target), batch_size)
            before, after, truth = (
                self._comparable(adata, rows, applied, batch_size=batch_size).mean(axis=0)
                for rows, applied in (
                    (cells.source[in_source], None),
                    (cells.source[in_source], learnt),
                    (cells.target[in_target], None),
                )
            )
            predicted.append(after - before)
            true.append(truth - before)
        return np.array(predicted, dtype=np.float64), np.array(true, dtype=np.float64)


def _bootstrap(populations: Populations, rng: np.random.Generator) -> Populations:
    """Source and target cells drawn with replacement, within their groups."""

    def draw(n_cells: int, groups: NDArray | None) -> NDArray[np.intp]:
        groups = np.zeros(n_cells) if groups is None else groups
        parts = (np.flatnonzero(groups == group) for group in np.unique(groups))
        return np.concatenate([rng.choice(part, len(part)) for part in parts])

    return populations.subset(
        draw(len(populations.source), populations.source_groups),
        draw(len(populations.target), populations.target_groups),
    )
