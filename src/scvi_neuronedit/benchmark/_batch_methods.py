"""Methods that correct a batch with control samples, behind one interface."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.interpolate import PchipInterpolator
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from scvi_neuronedit.data import MatrixReader
from scvi_neuronedit.model import NeuronEdit

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


@dataclass(frozen=True)
class BatchTask:
    """Which batch is to be corrected towards which, learning from which control.

    Parameters
    ----------
    adata
        The cells a method may look at, on the scale corrections are judged on, in ``X``.
    batch_key, control_key
        Columns of ``adata.obs`` with batch and control sample.
    source
        Batch that is corrected.
    target
        Reference batch.
    control
        Control sample that may be learnt from, in ``source`` and ``target``.
    """

    adata: AnnData
    batch_key: str
    control_key: str
    source: str
    target: str
    control: str

    @property
    def x(self) -> NDArray[np.float32]:
        """All values, ``[n_obs, n_vars]``."""
        return MatrixReader(self.adata, None)(np.arange(self.adata.n_obs))

    def cells(self, batch: str, control: str | None = None) -> NDArray[np.bool_]:
        """Mask of the cells of a batch, or of one control in it.

        Parameters
        ----------
        batch, control
            Their names.
        """
        obs = self.adata.obs
        mask = (obs[self.batch_key].astype(str) == batch).to_numpy()
        return mask if control is None else mask & (obs[self.control_key].astype(str) == control).to_numpy()

    def controls(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cells of the control in the batch that is corrected and in the reference."""
        x = self.x
        return x[self.cells(self.source, self.control)], x[self.cells(self.target, self.control)]

    def replace_source(self, values: NDArray) -> NDArray[np.float32]:
        """All values, with those of the batch that is corrected replaced.

        Parameters
        ----------
        values
            Corrected cells of the batch, in the order of ``adata``.
        """
        x = self.x
        x[self.cells(self.source)] = values
        return x


class BatchMethod(Protocol):
    """Anything that corrects a batch.

    Attributes
    ----------
    name
        What it is called in tables.
    sees_truth
        Whether it needs all cells of all batches, those included that it is judged by. If not, it is not given them.
    """

    name: str
    sees_truth: bool

    def __call__(self, task: BatchTask) -> NDArray:
        """Values of all cells of ``task.adata`` after correction, ``[n_obs, n_vars]``."""
        ...


@dataclass(frozen=True)
class NoCorrection:
    """The cells as they are."""

    name: str = "none"
    sees_truth: bool = False

    def __call__(self, task: BatchTask) -> NDArray:
        """The values as they are."""
        return task.x


@dataclass(frozen=True)
class MeanShift:
    """Add to every marker the difference of the control's means."""

    name: str = "mean shift"
    sees_truth: bool = False

    def __call__(self, task: BatchTask) -> NDArray:
        """Learn from the control, correct the batch."""
        source, target = task.controls()
        return task.replace_source(task.x[task.cells(task.source)] + target.mean(axis=0) - source.mean(axis=0))


@dataclass(frozen=True)
class QuantileCorrection:
    """Map the quantiles of every marker, as CytoNorm does in each of its clusters (Van Gassen et al., 2020).

    The 1st to 99th percentile of the control in the batch are mapped to those in the reference by a monotone cubic
    spline, continued linearly. With clusters, of the control's cells of both batches pooled, each cluster has its own
    splines; one with fewer than 50 cells in either batch stays as it is.

    Parameters
    ----------
    n_clusters
        Number of k-means clusters; 1 is none.
    random_state
        Seed of the clusters.
    """

    n_clusters: int = 1
    random_state: int = 0
    sees_truth: bool = False

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "quantile per marker" if self.n_clusters == 1 else f"quantile per marker in {self.n_clusters} clusters"

    def __call__(self, task: BatchTask) -> NDArray:
        """Learn from the control, correct the batch."""
        source, target = task.controls()
        query = task.x[task.cells(task.source)]
        clusters = KMeans(self.n_clusters, n_init=5, random_state=self.random_state)
        clusters.fit(np.concatenate([source, target]))
        of_source, of_target, of_query = (clusters.predict(x) for x in (source, target, query))
        corrected = query.copy()
        for cluster in range(self.n_clusters):
            s, t, q = source[of_source == cluster], target[of_target == cluster], of_query == cluster
            if min(len(s), len(t)) >= 50 and q.any():
                for j in range(query.shape[1]):
                    corrected[q, j] = _map_quantiles(s[:, j], t[:, j], query[q, j])
        return task.replace_source(corrected)


def _map_quantiles(source: NDArray, target: NDArray, values: NDArray) -> NDArray:
    levels = np.arange(1, 100) / 100
    x, ties = np.unique(np.quantile(source.astype(np.float64), levels), return_inverse=True)
    if len(x) == 1:
        return values
    y = np.bincount(ties, np.quantile(target.astype(np.float64), levels)) / np.bincount(ties)
    spline = PchipInterpolator(x, y)
    inside = np.clip(values, x[0], x[-1])
    return spline(inside) + spline.derivative()(inside) * (values - inside)


@dataclass(frozen=True)
class ComBat:
    """ComBat (Johnson et al., 2007) as in scanpy, with the batch as its only covariate."""

    name: str = "ComBat"
    sees_truth: bool = True

    def __call__(self, task: BatchTask) -> NDArray:
        """Correct all batches."""
        import scanpy as sc

        adata = task.adata.copy()
        adata.X, adata.obs["batch"] = task.x, adata.obs[task.batch_key].astype("category")
        return sc.pp.combat(adata, "batch", inplace=False)


@dataclass(frozen=True)
class Harmony:
    """Harmony (Korsunsky et al., 2019) on all principal components of the markers, taken back through the loadings.

    Harmony gives components, not expression. As all components are kept, going back to markers loses nothing.

    Parameters
    ----------
    random_state
        Seed of its clusters.
    """

    random_state: int = 0
    name: str = "Harmony"
    sees_truth: bool = True

    def __call__(self, task: BatchTask) -> NDArray:
        """Correct all batches."""
        import harmonypy

        pca = PCA(random_state=self.random_state)
        components = pca.fit_transform(task.x)
        corrected = harmonypy.run_harmony(
            components, task.adata.obs, task.batch_key, verbose=False, random_state=self.random_state
        ).Z_corr
        return pca.inverse_transform(corrected)


@dataclass
class CytoVI:
    """Expression decoded by CytoVI (:class:`scvi.external.CYTOVI`) as if all cells were of the reference batch.

    Trained once for all tasks with the same cells, on markers scaled to between 0 and 1; scaled back afterwards.

    Parameters
    ----------
    train
        Arguments of its ``train``.
    """

    train: dict[str, Any] = field(default_factory=dict)
    name: str = "CytoVI"
    sees_truth: bool = True
    _trained: tuple[AnnData, Any] | None = field(default=None, repr=False)

    def __call__(self, task: BatchTask) -> NDArray:
        """Train if need be, decode."""
        from scvi.external import CYTOVI

        x = task.x
        low, width = x.min(axis=0), np.ptp(x, axis=0)
        width[width == 0] = 1
        if self._trained is None or self._trained[0] is not task.adata:
            adata = task.adata.copy()
            adata.layers["scaled"] = np.clip((x - low) / width, 1e-6, 1 - 1e-6)  # as scvi.external.cytovi.scale
            CYTOVI.setup_anndata(adata, layer="scaled", batch_key=task.batch_key)
            model = CYTOVI(adata)
            model.train(**self.train)
            self._trained = task.adata, model
        decoded = self._trained[1].get_normalized_expression(transform_batch=[task.target], return_numpy=True)
        return decoded * width + low


@dataclass(frozen=True)
class CytoNorm:
    """CytoNorm itself (Van Gassen et al., 2020), as the package ``cytonormpy``, with the reference batch as goal.

    Parameters
    ----------
    n_clusters
        Number of FlowSOM metaclusters, of a grid of 10 x 10.
    random_state
        Seed of FlowSOM.
    """

    n_clusters: int = 10
    random_state: int = 0
    name: str = "CytoNorm (cytonormpy)"
    sees_truth: bool = False

    def __call__(self, task: BatchTask) -> NDArray:
        """Learn from the control, correct all cells."""
        import cytonormpy

        obs = task.adata.obs
        adata = task.adata.copy()
        batch, control = (obs[key].astype(str) for key in (task.batch_key, task.control_key))
        names, batches = batch + "/" + control, sorted(batch.unique())
        adata.obs = names.to_frame("file_name")  # its columns must have these names, its batches be numbers
        adata.obs["batch"] = batch.map({name: i for i, name in enumerate(batches)})
        adata.obs["reference"] = np.where(control == task.control, "ref", "other")
        adata.layers["expression"] = task.x
        with contextlib.redirect_stdout(io.StringIO()):
            norm = cytonormpy.CytoNorm()
            norm.add_clusterer(cytonormpy.FlowSOM(n_clusters=self.n_clusters, xdim=10, ydim=10, seed=self.random_state))
            norm.run_anndata_setup(adata, layer="expression", channels="all", key_added="normalized")
            norm.run_clustering()
            norm.calculate_quantiles()
            norm.calculate_splines(goal=batches.index(task.target))
            norm.normalize_data()
        return np.asarray(adata.layers["normalized"])


@dataclass
class NeuronEditCorrection:
    """Train a NeuronEdit model on the cells of the task and correct the batch with the control.

    Parameters
    ----------
    name
        What it is called in tables.
    correct
        Arguments of :meth:`~scvi_neuronedit.NeuronEdit.correct_batch`.
    model
        Arguments of :class:`~scvi_neuronedit.NeuronEdit`.
    train
        Arguments of :meth:`~scvi_neuronedit.NeuronEdit.train`.
    """

    name: str = "NeuronEdit"
    correct: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    sees_truth: bool = False

    def __call__(self, task: BatchTask) -> NDArray:
        """Train, correct."""
        adata = task.adata.copy()
        NeuronEdit.setup_anndata(adata, batch_key=task.batch_key)
        model = NeuronEdit(adata, **self.model)
        model.train(**self.train)
        pair = adata[task.cells(task.source) | task.cells(task.target)].copy()
        controls = {task.control_key: task.control}
        corrected = model.correct_batch(task.target, controls, pair, layer_added=None, **self.correct)
        return task.replace_source(corrected[(pair.obs[task.batch_key].astype(str) == task.source).to_numpy()])
