"""Simulated CITE-seq: RNA and surface proteins of the same cells, with known truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scvi_neuronedit.datasets._simulate import simulate_conditions

_NOISE = 0.3


def simulate_cite_seq(
    n_cells: int = 3000, n_genes: int = 1000, n_proteins: int = 50, *, random_state: int = 0, **kwargs
) -> MuData:
    """RNA counts and protein levels of the same cells, with and without a stimulus.

    The RNA is that of :func:`simulate_conditions`. Each protein follows one of the genes that differ most between cells: its
    level, on a log scale around 0 as after CLR or DSB, is log1p of the gene's expected counts per 10,000, less the mean
    of all cells without the stimulus, plus normal noise of standard deviation 0.3, independent of the noise of the counts.
    A protein has the name of its gene.

    Parameters
    ----------
    n_cells, n_genes
        Numbers of cells and genes.
    n_proteins
        Number of proteins.
    random_state
        Seed.
    **kwargs
        See :func:`simulate_conditions`.

    Returns
    -------
    MuData with modalities ``"rna"`` and ``"prot"``, ``obs["condition"]`` and ``obs["cell_type"]``. The truth is in the layers
    ``"mean_ctrl"`` and ``"mean_stim"`` of both: the expected values of every cell without and with the stimulus.
    """
    if not 1 <= n_proteins <= n_genes:
        msg = f"n_proteins={n_proteins}; it must lie between 1 and n_genes={n_genes}."
        raise ValueError(msg)
    rna = simulate_conditions(n_cells, n_genes, random_state=random_state, **kwargs)
    rng = np.random.default_rng([random_state, 1])
    levels = {layer: np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)) for layer, x in rna.layers.items()}
    followed = np.sort(np.argsort(-levels["mean_ctrl"].var(axis=0))[:n_proteins])
    center = levels["mean_ctrl"][:, followed].mean(axis=0)
    levels = {layer: x[:, followed] - center for layer, x in levels.items()}
    obs, rna.obs = rna.obs, pd.DataFrame(index=rna.obs_names)
    stimulated = (obs["condition"] == "stim").to_numpy()[:, None]
    mean = np.where(stimulated, levels["mean_stim"], levels["mean_ctrl"])
    values = mean + rng.normal(0, _NOISE, mean.shape)
    var = pd.DataFrame(index=rna.var_names[followed])
    prot = AnnData(values.astype(np.float32), obs=rna.obs.copy(), var=var, layers=levels)
    mdata = MuData({"rna": rna, "prot": prot})
    mdata.obs[obs.columns] = obs
    return mdata
