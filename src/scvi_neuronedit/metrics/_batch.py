"""How well a batch effect is removed, and what it should not have touched is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from scvi_neuronedit.data import MatrixReader, check_obs_column, listed, unknown_name
from scvi_neuronedit.edit import energy_distance, feature_emd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray


def correlation_error(x: NDArray, y: NDArray) -> float:
    """Mean absolute difference of the matrices of correlations between features.

    Parameters
    ----------
    x, y
        Samples of shapes ``[n_x, n_features]`` and ``[n_y, n_features]``. A feature that is constant in a sample
        counts as uncorrelated there.
    """
    return float(np.abs(_correlations(x) - _correlations(y)).mean())


def _correlations(x: NDArray) -> NDArray[np.float64]:
    centred = x - x.mean(axis=0, dtype=np.float64)
    scale = np.sqrt((centred**2).sum(axis=0))
    centred = centred / np.where(scale > 0, scale, 1)
    return centred.T @ centred


def control_scores(corrected: NDArray, truth: NDArray, pca: PCA) -> dict[str, float]:
    """Scores of corrected control cells against the same control in the reference batch.

    Parameters
    ----------
    corrected
        Control cells of a batch after correction, ``[n_cells, n_features]``.
    truth
        The same control as measured in the reference batch, ``[n_truth, n_features]``.
    pca
        Principal components in which ``edist`` is taken, fitted on all cells before correction.

    Returns
    -------
    ``emd``, ``emd_max``
        Mean and maximum over the features of :func:`feature_emd`.
    ``edist``
        :func:`energy_distance` in the principal components, undivided.
    ``ecorr``
        :func:`correlation_error`.
    """
    emd = feature_emd(corrected, truth)
    return {
        "emd": float(emd.mean()),
        "emd_max": float(emd.max()),
        "edist": energy_distance(pca.transform(corrected), pca.transform(truth)),
        "ecorr": correlation_error(corrected, truth),
    }


def preservation(before: tuple[NDArray, NDArray], after: tuple[NDArray, NDArray]) -> float:
    """How much of the difference between two samples of a batch is left after correction.

    Parameters
    ----------
    before, after
        The two samples, such as two donors, before and after correction, each ``[n_cells, n_features]``.

    Returns
    -------
    Mean over the features of :func:`feature_emd` after, divided by the same before: 1 where the difference is preserved,
    less where correction removes it.
    """
    return float(feature_emd(*after).mean() / feature_emd(*before).mean())


def control_errors(
    adata: AnnData,
    layers: str | None | Sequence[str | None],
    *,
    batch_key: str,
    control_key: str,
    reference: str,
    n_components: int = 10,
) -> pd.DataFrame:
    """Distance of every batch's controls from the same controls of the reference batch, layer by layer.

    Parameters
    ----------
    adata
        Cells of several batches, with controls.
    layers
        Layer, or layers, to compare, such as one before and one after correction; ``None`` is ``X``. The reference's
        controls are taken from the first, so that a correction is judged against what was measured.
    batch_key
        Column of ``adata.obs`` with the batch of each cell.
    control_key
        Column of ``adata.obs`` with the name of the control sample; missing for cells of no control.
    reference
        The reference batch.
    n_components
        Number of principal components, fitted on all cells of the first layer, in which ``edist`` is taken.

    Returns
    -------
    A row for each batch but the reference, each control it shares with the reference, and each layer: ``batch``,
    ``control``, ``layer``, the :func:`control_scores`, and ``emd_change``, the change of ``emd`` from the first layer,
    as a share (-0.4 is 40 % less).
    """
    check_obs_column(adata, "batch_key", batch_key)
    if control_key not in adata.obs:
        raise KeyError(unknown_name("control_key", control_key, "adata.obs", adata.obs.columns))
    batch, control = adata.obs[batch_key].astype(str).to_numpy(), adata.obs[control_key]
    if str(reference) not in batch:
        raise ValueError(unknown_name("reference", reference, f"adata.obs[{batch_key!r}]", np.unique(batch).tolist()))
    layers = [layers] if layers is None or isinstance(layers, str) else list(layers)
    readers = [MatrixReader(adata, layer) for layer in layers]
    x = readers[0](np.arange(adata.n_obs))
    pca = PCA(min(n_components, *(n - 1 for n in x.shape)), random_state=0).fit(x)
    rows = []
    for name in control.dropna().astype(str).unique():
        is_control = (control.notna() & (control.astype(str) == name)).to_numpy()
        truth = x[is_control & (batch == str(reference))]
        others = np.unique(batch[is_control & (batch != str(reference))]) if len(truth) else []
        for other in others:
            cells = np.flatnonzero(is_control & (batch == other))
            scores = [control_scores(reader(cells), truth, pca) for reader in readers]
            for layer, score in zip(layers, scores, strict=True):
                change = score["emd"] / scores[0]["emd"] - 1
                rows.append({"batch": other, "control": name, "layer": layer or "X", **score, "emd_change": change})
    if not rows:
        msg = (
            f"no control of adata.obs[{control_key!r}] ({listed(control.dropna().unique().tolist())}) is in batch "
            f"{reference!r} and in another."
        )
        raise ValueError(msg)
    return pd.DataFrame(rows)
