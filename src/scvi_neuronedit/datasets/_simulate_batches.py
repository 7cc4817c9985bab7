"""Simulated mass cytometry of several batches, with control samples and known truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

COFACTOR = 5
# control_2 joins batch_3 to the others; each batch measures a patient of its own
LAYOUT = {
    "batch_1": ("control_1", "control_2", "patient_1"),
    "batch_2": ("control_1", "control_2", "patient_2"),
    "batch_3": ("control_2", "patient_3"),
}


def simulate_batches(
    n_cells: int = 400, n_markers: int = 16, n_types: int = 5, *, effect: float = 1.0, random_state: int = 0
) -> AnnData:
    r"""Intensities of three batches that share control samples, with what they would be without a batch effect.

    On the scale :math:`\mathrm{arcsinh}(x / 5)` a cell is the profile of its type, which is on or off in each marker, the
    deviation of its donor (of about a fifth of what is on), and noise. Batches other than the first squeeze or stretch
    each marker and shift it, the same way for all samples. Donors differ in their shares of cell types as well. Two
    controls, each one donor, are measured in several batches; every batch has a patient of its own.

    Parameters
    ----------
    n_cells
        Number of cells of each sample.
    n_markers, n_types
        Number of markers and of cell types.
    effect
        Strength of the batch effects: 0 is none.
    random_state
        Seed.

    Returns
    -------
    AnnData of shape ``[8 * n_cells, n_markers]`` with raw intensities in ``X``; ``obs["batch"]``, ``obs["donor"]`` (the
    controls and patients), ``obs["sample"]`` (batch and donor), ``obs["cell_type"]``; and in ``layers["without_batch"]`` the
    intensities of the same cells without batch effects.
    """
    rng = np.random.default_rng(random_state)
    profiles = np.where(rng.random((n_types, n_markers)) < 0.4, rng.uniform(2.5, 5, (n_types, n_markers)), 0.5)
    donors = sorted({donor for names in LAYOUT.values() for donor in names})
    deviations = {donor: rng.normal(0, 0.2, n_markers) for donor in donors}
    shares = {donor: rng.dirichlet(np.full(n_types, 8)) for donor in donors}
    parts, obs = [], []
    for i, (batch, names) in enumerate(LAYOUT.items()):
        stretch = np.exp(rng.normal(0, 0.1 * effect * (i > 0), n_markers))
        shift = rng.normal(0, 0.4 * effect * (i > 0), n_markers)
        for donor in names:
            types = rng.choice(n_types, n_cells, p=shares[donor])
            own = np.where(profiles[types] > 1, deviations[donor] * profiles[types], 0)
            truth = profiles[types] + own + rng.normal(0, 0.35, (n_cells, n_markers))
            parts.append((truth * stretch + shift, truth))
            sample = f"{batch}_{donor}"
            labels = [f"type_{k + 1}" for k in types]
            obs.append(
                pd.DataFrame(
                    {"batch": batch, "donor": donor, "sample": sample, "cell_type": labels},
                    index=[f"{sample}-{row}" for row in range(n_cells)],
                )
            )
    measured, truth = (COFACTOR * np.sinh(np.concatenate(side)).clip(min=0) for side in zip(*parts, strict=True))
    adata = AnnData(measured.astype(np.float32), pd.concat(obs).astype("category"))
    adata.var_names = [f"CD{k + 1}" for k in range(n_markers)]
    adata.layers["without_batch"] = truth.astype(np.float32)
    return adata
