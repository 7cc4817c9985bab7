"""Neurons with names: gene programs of a model, and which neurons an edit moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.stats import wasserstein_distance

from scvi_neuronedit.data import unknown_name
from scvi_neuronedit.nn import effective_weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scvi_neuronedit.data import Populations
    from scvi_neuronedit.edit import Edit

N_TOP_GENES = 10


class ProgramsMixin:
    """Methods that say what neurons stand for."""

    def get_neuron_programs(self, *, n_top_genes: int = N_TOP_GENES) -> pd.DataFrame:
        """How well the program neurons agree with the gene sets they come from, and what the data added.

        Of a model without gene programs: the genes of every neuron and module, as :meth:`get_neuron_modules` ranks them.

        Parameters
        ----------
        n_top_genes
            Number of genes to name.

        Returns
        -------
        A row for each program (and network): ``program``, ``layer``, ``neuron``, ``n_genes`` of the gene set, ``kept``,
        the share of these with a weight left; ``n_added``, number of other genes with a weight; ``share_of_weight``, the
        gene set's share of the sum of absolute weights; ``top_genes`` of the set, and ``added_genes``, largest weights
        first, with a minus sign where more of the gene means less of the neuron.
        """
        programs = self.module.programs
        if programs is None:
            return self.get_neuron_modules(n_genes=n_top_genes)
        rows = []
        for number, network in enumerate(self.module.networks):
            layer = self.module.names_in_networks(programs.layer)[number]
            weights = programs.by_neuron(network, effective_weight(programs.linear(network)).detach().cpu())
            for neuron, name in enumerate(programs.names):
                weight, mask = weights[neuron].numpy(), programs.mask[neuron].numpy()
                rows.append(
                    {
                        "program": name,
                        "layer": layer,
                        "neuron": neuron,
                        "n_genes": int(mask.sum()),
                        "kept": float((weight[mask] != 0).mean()),
                        "n_added": int((weight[~mask] != 0).sum()),
                        "share_of_weight": float(np.abs(weight[mask]).sum() / max(np.abs(weight).sum(), 1e-12)),
                        "top_genes": self._name_genes(np.where(mask, weight, 0), n_top_genes),
                        "added_genes": self._name_genes(np.where(mask, 0, weight), n_top_genes),
                    }
                )
        return pd.DataFrame(rows)

    def rank_neurons(self, edit: Edit, layer: str | None = None, *, n_top_genes: int = N_TOP_GENES) -> pd.DataFrame:
        """Which neurons differ most between the source and the target cells of an edit.

        Parameters
        ----------
        edit
            An edit learnt by this model on its own data, not chained.
        layer
            Layer to look at. If ``None``: that of the gene programs if the model has any, else the first one edited.
        n_top_genes
            Number of genes to name for each neuron.

        Returns
        -------
        A row for each neuron, by decreasing ``emd``: ``neuron`` (name of its program, or number), ``layer``, ``emd``, the
        earth mover's distance of its activations in source and target cells, and ``shift``, the change of their mean, both
        in standard deviations among source cells; ``direction``, ``"up"`` or ``"down"``; ``top_genes``, the genes whose
        decoded expression changes most when this neuron alone is shifted, those that fall with a minus sign. The direction
        of a program is that of its genes. Cells are weighted as for learning the edit.
        """
        self._check_edit(edit)
        programs = self.module.programs
        if layer is None:
            first = edit.layers[0].partition("/")[0] if edit.layers else "code"  # in all networks
            layer = first if programs is None else programs.layer
        self._check_layer(layer)
        populations = self._populations_of(edit)
        tables = [self._rank_layer(name, populations, n_top_genes) for name in self.module.names_in_networks(layer)]
        return pd.concat(tables).sort_values("emd", ascending=False, kind="stable").reset_index(drop=True)

    def _rank_layer(self, layer: str, populations: Populations, n_top_genes: int) -> pd.DataFrame:
        source, target = (
            self._activations(self._table(self.adata), rows, layer) for rows in (populations.source, populations.target)
        )
        weights = (populations.source_weights, populations.target_weights)
        weights = tuple(np.ones(len(x)) if w is None else w for x, w in zip((source, target), weights, strict=True))
        mean = np.average(source, axis=0, weights=weights[0])
        sd = np.sqrt(np.average((source - mean) ** 2, axis=0, weights=weights[0]))
        sd = np.where(sd > 1e-8, sd, 1.0)
        shift = np.average(target, axis=0, weights=weights[1]) - mean
        emd = [wasserstein_distance(s, t, *weights) for s, t in zip(source.T, target.T, strict=True)]
        table = pd.DataFrame(
            {"neuron": [str(i) for i in range(len(mean))], "layer": layer, "emd": emd / sd, "shift": shift / sd}
        )
        up = shift > 0
        programs, name = self.module.programs, layer.partition("/")[0]
        if programs is not None and name == programs.layer:
            table.loc[: len(programs.names) - 1, "neuron"] = programs.names
            up[: len(programs.names)] ^= self._programs_are_turned(layer)
        table["direction"] = np.where(up, "up", "down")
        table["top_genes"] = [self._name_genes(change, n_top_genes) for change in self._decoded(layer, mean, shift)]
        return table

    def _programs_are_turned(self, layer: str) -> np.ndarray:
        """Which program neurons fall when their genes rise."""
        programs = self.module.programs
        network = self.module.networks[int(layer.partition("/")[2] or 1) - 1]
        weights = programs.by_neuron(network, effective_weight(programs.linear(network)).detach().cpu())
        return ((weights[: len(programs.names)] * programs.mask).sum(dim=1) < 0).numpy()

    @torch.inference_mode()
    def _decoded(self, layer: str, mean: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Change of the network's output when each neuron alone is shifted, of shape ``[n_neurons, n_genes]``."""
        name, _, number = layer.partition("/")
        network = self.module.networks[int(number or 1) - 1]
        if name == "output":
            return np.diag(shift)
        mean, shift = (torch.as_tensor(x, dtype=torch.float32, device=self.device) for x in (mean, shift))
        return (network(mean + torch.diag(shift), after=name) - network(mean[None], after=name)).cpu().numpy()

    def _name_genes(self, values: np.ndarray, n_genes: int) -> str:
        """Names of the largest values, those below zero with a minus sign."""
        order = np.argsort(-np.abs(values), kind="stable")[:n_genes]
        return ", ".join(("-" if values[i] < 0 else "") + str(self.var_names_[i]) for i in order if values[i] != 0)


def check_program_layer(layer: str, hidden: Sequence[int], n_latent: int, n_programs: int) -> None:
    """Refuse a layer that is not next to the genes, or has too few neurons."""
    widths = {"encoder_1": hidden[0], f"decoder_{len(hidden)}": hidden[0]} if len(hidden) else {"code": n_latent}
    if layer not in widths:
        raise ValueError(unknown_name("program_layer", layer, "the layers next to the genes", list(widths)))
    if n_programs > widths[layer]:
        msg = f"gene_programs has {n_programs} gene sets, but layer {layer!r} only {widths[layer]} neurons."
        raise ValueError(msg)
