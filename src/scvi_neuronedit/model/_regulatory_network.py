"""What regulatory dynamics say of genes: who regulates whom, and what a perturbation does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scvi_neuronedit.data import unknown_name
from scvi_neuronedit.model._regulatory_forward import checked_times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike


class RegulatoryNetworkMixin:
    """Methods that read the network out of the dynamics and perturb it."""

    def get_regulatory_network(self, *, min_effect: float = 0.0) -> pd.DataFrame:
        r"""Edges that the weights left stand for.

        The effect of a gene on another is :math:`\mathrm{ReLU}(\upsilon) \odot (U_\Sigma W_\Sigma + U_\Pi W_\Pi)`
        (appendix B.10.4 of arXiv 2403.04805). A pruned model has an edge wherever a path of weights is left.

        Parameters
        ----------
        min_effect
            Leave out edges whose effect is not larger than this in size.

        Returns
        -------
        A row for each edge, largest effects first: ``source`` (regulator), ``target``, ``effect``, ``sign`` (1
        activates, -1 represses), and with a prior ``in_prior`` and ``prior_sign`` (0 where the prior has no edge). Genes'
        effects on themselves are among the edges.
        """
        effects = self.module.dynamics.effects().cpu().numpy()
        rows, columns = np.nonzero(np.abs(effects) > min_effect)
        effect = effects[rows, columns]
        table = pd.DataFrame(
            {
                "source": self.var_names_[rows],
                "target": self.var_names_[columns],
                "effect": effect,
                "sign": np.sign(effect).astype(int),
            }
        )
        if self.module.prior is not None:
            known = np.sign(self.module.prior.cpu().numpy()[rows, columns]).astype(int)
            table["in_prior"], table["prior_sign"] = known != 0, known
        order = np.argsort(-np.abs(effect), kind="stable")
        return table.iloc[order].reset_index(drop=True)

    def simulate_perturbation(
        self,
        gene: str | Sequence[str] | Mapping[str, float],
        value: float | None = None,
        start: ArrayLike | pd.DataFrame | pd.Series | None = None,
        times: Sequence[float] | None = None,
    ) -> AnnData:
        """Let expression run with genes held at a value: 0 is a knock-out, 1 over-expression on a scale of 0 to 1.

        Parameters
        ----------
        gene
            Gene, or genes, or a mapping of genes to values.
        value
            Value the genes are held at. Not with a mapping.
        start
            Expression to start from; see :meth:`~scvi_neuronedit.RegulatoryODE.predict_trajectory`. If ``None``: the
            first points of all trajectories of the model's data.
        times
            Times to predict, increasing. If ``None``: those of the longest trajectory of the model's data.

        Returns
        -------
        AnnData with a row for each start and time (``obs["trajectory"]``, ``obs["time"]``): expression with the genes
        held in ``X``, without in ``layers["unperturbed"]``, and the difference in ``layers["change"]``.
        ``uns["perturbation"]`` names the genes and values.
        """
        self._check_is_ready(None, needs_data=start is None or times is None)
        held = self._held(gene, value)
        if start is None or times is None:
            values, data_times, trajectories = self._read(self.adata)
            start = np.stack([values[rows[0]] for rows in trajectories]) if start is None else start
            times = data_times[max(trajectories, key=len)] if times is None else times
        start, times = self._checked_starts(start), checked_times(times)
        at = np.tile(times, (len(start), 1))
        unperturbed = self._as_adata(self._roll_out(start, at), times)
        start = start.copy()
        for name, level in held.items():
            start[:, self.var_names_ == name] = level
        result = self._as_adata(self._roll_out(start, at, clamped=tuple(held)), times)
        result.layers["unperturbed"] = unperturbed.X
        result.layers["change"] = result.X - unperturbed.X
        result.uns["perturbation"] = held
        return result

    def _held(self, gene: str | Sequence[str] | Mapping[str, float], value: float | None) -> dict[str, float]:
        """Genes and the values they are held at, checked."""
        if isinstance(gene, dict) != (value is None):
            msg = "pass either gene (one or more names) and value, or a mapping of genes to values."
            raise TypeError(msg)
        genes = [gene] if isinstance(gene, str) else list(gene)
        held = {str(k): float(v) for k, v in gene.items()} if value is None else dict.fromkeys(genes, float(value))
        if not held:
            msg = "gene is empty; name at least one gene."
            raise ValueError(msg)
        for name, level in held.items():
            if name not in self.var_names_:
                raise ValueError(unknown_name("gene", name, "the model's genes", self.var_names_.tolist()))
            if not np.isfinite(level):
                msg = f"value={level} for gene {name!r}; it must be a finite number."
                raise ValueError(msg)
        return held
