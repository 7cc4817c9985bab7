"""Methods that predict a condition, behind one interface, with the baselines every table shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from scvi_neuronedit.data import MatrixReader
from scvi_neuronedit.edit import composition_weights
from scvi_neuronedit.model import NeuronEdit

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.benchmark._splits import Split


@dataclass(frozen=True)
class Task:
    """What is to be predicted, from what.

    Parameters
    ----------
    adata
        All cells, on the scale predictions are judged on.
    split
        Which cells may be learnt from, which are predicted, and which are the truth.
    condition_key, labels_key
        Columns of ``adata.obs``.
    source, target
        The two conditions.
    """

    adata: AnnData
    split: Split
    condition_key: str
    labels_key: str
    source: str
    target: str

    @property
    def control(self) -> NDArray[np.float32]:
        """The cells that are predicted, before the change: ``[n_control, n_features]``."""
        return MatrixReader(self.adata, None)(self.split.control)

    @property
    def truth(self) -> NDArray[np.float32]:
        """The held-out cells: ``[n_truth, n_features]``."""
        return MatrixReader(self.adata, None)(self.split.truth)


class Method(Protocol):
    """Anything that predicts: one function from a task to named predictions."""

    def __call__(self, task: Task) -> dict[str, NDArray]:
        """Predictions of the held-out cells from the control cells, each ``[n_cells, n_features]``."""
        ...


def unchanged(task: Task) -> dict[str, NDArray]:
    """The control cells as they are."""
    return {"unchanged control": task.control}


def gene_mean_shift(task: Task) -> dict[str, NDArray]:
    """Add to every gene the difference of its means over the other groups, matched in composition; not below 0."""
    train = task.adata[task.split.train]
    condition = train.obs[task.condition_key].to_numpy()
    labels = train.obs[task.labels_key].astype(str).to_numpy()
    x = MatrixReader(train, None)(np.arange(train.n_obs))
    is_source, is_target = condition == task.source, condition == task.target
    source_weights, target_weights = composition_weights(labels[is_source], labels[is_target])
    shift = np.average(x[is_target], axis=0, weights=target_weights)
    shift = shift - np.average(x[is_source], axis=0, weights=source_weights)
    return {"gene mean shift": np.maximum(task.control + shift, 0)}


@dataclass
class NeuronEditMethod:
    """Train a NeuronEdit model on the cells of the split and predict with one or several edits.

    Parameters
    ----------
    edits
        Arguments of :meth:`~scvi_neuronedit.NeuronEdit.predict_condition` by the name of the prediction.
    model
        Arguments of :class:`~scvi_neuronedit.NeuronEdit`.
    train
        Arguments of :meth:`~scvi_neuronedit.NeuronEdit.train`.
    show_reconstruction
        Whether to return the held-out cells, encoded and decoded, as well: what the network could reach at best
        without the residual.
    """

    edits: dict[str, dict[str, Any]] = field(default_factory=lambda: {"NeuronEdit": {}})
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    show_reconstruction: bool = False

    def __call__(self, task: Task) -> dict[str, NDArray]:
        """Train, learn, apply."""
        train = task.adata[task.split.train].copy()
        NeuronEdit.setup_anndata(train, condition_key=task.condition_key, labels_key=task.labels_key)
        model = NeuronEdit(train, **self.model)
        model.train(**self.train)
        query = task.adata.obs_names[task.split.control]
        predictions = {
            name: model.predict_condition(task.source, task.target, query=query, layer_added=None, **arguments)
            for name, arguments in self.edits.items()
        }
        if self.show_reconstruction:
            predictions["truth, encoded and decoded"] = model.get_normalized_expression(
                task.adata, indices=task.split.truth, return_numpy=True
            )
        return predictions
