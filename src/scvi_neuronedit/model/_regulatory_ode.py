"""Regulatory dynamics as a model class: register trajectories, train, prune, roll out."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager
from scvi.data.fields import CategoricalObsField, LayerField, NumericalObsField
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin
from scvi.utils import setup_anndata_dsp

from scvi_neuronedit.data import (
    MatrixReader,
    check_layer_is_free,
    check_unique_features,
    match_prior,
    summarize_values,
    trajectories_in_order,
    unknown_name,
    use_csr_matrix,
)
from scvi_neuronedit.model._regulatory_forward import RegulatoryForwardMixin, checked_times
from scvi_neuronedit.model._regulatory_network import RegulatoryNetworkMixin
from scvi_neuronedit.module import RegulatoryODEModule
from scvi_neuronedit.nn import SOLVERS
from scvi_neuronedit.train import PairSplitter, RegulatoryTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from scvi_neuronedit.train import DASHPruning

_PLAN = {
    "eps": 1e-8,
    "weight_decay": 0.0,
    "reduce_lr_on_plateau": True,
    "lr_factor": 0.9,
    "lr_patience": 3,
    "lr_threshold": 1e-6,
    "lr_min": 4e-5,
}


class RegulatoryODE(RegulatoryNetworkMixin, RegulatoryForwardMixin, UnsupervisedTrainingMixin, BaseModelClass):
    """Gene expression as a differential equation of genes that regulate each other (PHOENIX), to be pruned by DASH.

    The network is that of Hossain et al., Genome Biology 2024, trained to carry each point of a trajectory to the next;
    see :class:`~scvi_neuronedit.nn.RegulatoryDynamics`. Expression should lie between about 0 and 1, and time be scaled
    so that neighbouring points are at most a few units apart.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`~scvi_neuronedit.RegulatoryODE.setup_anndata`.
    prior
        What is known of the network, such as a motif map: row regulates column, positive for activation, negative for
        repression, zero where nothing is known. A DataFrame with names of genes, an array in the order of
        ``adata.var_names``, or a table with the columns ``source``, ``target`` and maybe ``weight``.
    input_prior
        Which genes act together, such as protein interactions, in the same forms. If ``None``: genes that share
        targets in the prior, :math:`|A| |A|^T`.
    n_hidden
        Number of neurons of the additive and of the multiplicative block.
    prior_loss_weight
        Share of the loss, below 1, that asks regulation to equal the prior's linear effects.
    solver, tolerance, adjoint
        See :func:`~scvi_neuronedit.nn.integrate`. ``solver="rk4", adjoint=False`` is several times faster.
    registry
        Registry of a saved model, used to load it without data.

    Examples
    --------
    >>> RegulatoryODE.setup_anndata(adata, time_key="time", trajectory_key="trajectory")
    >>> model = RegulatoryODE(adata, prior=motifs)
    >>> model.train(pruning=DASHPruning(lambdas=0.5))
    >>> model.get_regulatory_network()
    """

    _training_plan_cls = RegulatoryTrainingPlan
    _data_splitter_cls = PairSplitter

    def __init__(
        self,
        adata: AnnData | None = None,
        prior: ArrayLike | pd.DataFrame | None = None,
        input_prior: ArrayLike | pd.DataFrame | None = None,
        n_hidden: int = 40,
        prior_loss_weight: float = 0.0,
        solver: str = "dopri5",
        tolerance: float = 1e-3,
        adjoint: bool = True,
        registry: dict | None = None,
    ) -> None:
        super().__init__(adata, registry)
        if solver not in SOLVERS:
            raise ValueError(unknown_name("solver", solver, "the solvers", SOLVERS))
        if not 0 <= prior_loss_weight < 1:
            msg = f"prior_loss_weight={prior_loss_weight}; it must be at least 0 and less than 1."
            raise ValueError(msg)
        if prior is None and (input_prior is not None or prior_loss_weight > 0):
            msg = "input_prior and prior_loss_weight need a prior; pass one."
            raise ValueError(msg)
        self.var_names_ = np.asarray(self.get_var_names(), dtype=str)
        self.module = RegulatoryODEModule(
            self.summary_stats.n_vars,
            n_hidden,
            None if prior is None else match_prior(prior, self.var_names_),
            None if input_prior is None else match_prior(input_prior, self.var_names_, "input_prior"),
            prior_loss_weight,
            solver,
            tolerance,
            adjoint,
        )
        self.pruning_ = None
        self._model_summary_string = (
            f"RegulatoryODE: {self.summary_stats.n_vars} genes, n_hidden {n_hidden}, solver {solver!r}, "
            f"{'no prior' if prior is None else 'with a prior'}."
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        time_key: str = "time",
        trajectory_key: str | None = None,
        **kwargs,
    ) -> None:
        """%(summary)s.

        Rows may have any order: within a trajectory they are sorted by time.

        Parameters
        ----------
        %(param_adata)s
        layer
            Layer with expression on a scale of about 0 to 1; ``X`` if ``None``.
        time_key
            Column of ``adata.obs`` with the time, or pseudotime, of each row. No time may occur twice in a trajectory.
        trajectory_key
            Column of ``adata.obs`` with the trajectory (sample, replicate) of each row; each needs two rows or more.
            All rows are one trajectory if ``None``.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        if adata.is_view:
            msg = "adata is a view of another AnnData; pass adata.copy()."
            raise ValueError(msg)
        check_unique_features(adata)
        trajectories_in_order(adata, time_key, trajectory_key)
        reader = MatrixReader(adata, layer)
        summary = summarize_values(reader)
        largest = max((float(block.max()) for block in reader.blocks() if block.size), default=0.0)
        if summary.minimum < -1 or largest > 2:
            msg = (
                f"{reader.name} has values from {summary.minimum:g} to {largest:g}; the dynamics are made for values "
                "between about 0 and 1: scale all values by the same minimum and maximum, or each gene by its own."
            )
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
        use_csr_matrix(adata, layer)
        fields = [
            LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
            NumericalObsField("time", time_key),
        ]
        if trajectory_key is not None:
            fields.append(CategoricalObsField("trajectory", trajectory_key))
        if kwargs.get("source_registry") is not None:
            kwargs.setdefault("extend_categories", True)  # a trajectory is no input of the network
        adata_manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        adata_manager.register_fields(adata, **kwargs)
        cls.register_manager(adata_manager)

    @classmethod
    def load(cls, dir_path: str, adata: AnnData | bool | None = None, **kwargs) -> RegulatoryODE:
        """Load a saved model, with its masks.

        Parameters
        ----------
        dir_path
            Folder it was saved to.
        adata
            AnnData with the model's genes in their order. If ``None``, the one saved with the model; ``False``: none.
        **kwargs
            As for scvi-tools' models.
        """
        model = super().load(dir_path, adata, **kwargs)
        if model.adata is not None and not np.array_equal(model.adata.var_names, model.var_names_):
            msg = "adata.var_names differ from the genes the model was made with; select them, in the model's order."
            raise ValueError(msg)
        return model

    def train(
        self,
        max_epochs: int = 200,
        batch_size: int = 32,
        train_size: float | None = None,
        pruning: DASHPruning | None = None,
        plan_kwargs: dict | None = None,
        **kwargs,
    ) -> None:
        """Train the dynamics on pairs of consecutive points, with the trainer of scvi-tools.

        Parameters
        ----------
        max_epochs
            Number of passes through the pairs.
        batch_size
            Number of pairs in a minibatch.
        train_size
            Share of the trajectories that is trained on; 0.9 if ``None``. The others decide on the learning rate and,
            with ``pruning``, on the model that is kept. Of fewer than three trajectories, single pairs are set aside.
        pruning
            Schedule by which weights are removed. Masks of an earlier training stay in any case.
        plan_kwargs
            As for :class:`scvi.train.TrainingPlan`. By default Adam with ``lr=1e-3`` (gene multipliers five times
            that), reduced by a tenth after three epochs without a better validation loss.
        **kwargs
            As in scvi-tools: ``accelerator``, ``devices``, ``validation_size``, ``datasplitter_kwargs`` (such as
            ``{"external_indexing": [rows to train on, rows to validate on]}``), and all arguments of
            :class:`scvi.train.Trainer`.
        """
        if self.adata is None:
            msg = "the model was loaded without data; load it with adata to train it."
            raise ValueError(msg)
        values, times, trajectories = self._read(self.adata)
        validates = train_size != 1 or "external_indexing" in kwargs.get("datasplitter_kwargs", {})
        plan = {**_PLAN, "reduce_lr_on_plateau": validates, **(plan_kwargs or {})}
        data = {"values": values, "times": times, "trajectories": trajectories}
        if pruning is not None:
            kwargs["callbacks"] = [*kwargs.get("callbacks", []), pruning]
        super().train(
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_size=train_size,
            datasplitter_kwargs={**kwargs.pop("datasplitter_kwargs", {}), **data},
            plan_kwargs=plan,
            check_val_every_n_epoch=kwargs.pop("check_val_every_n_epoch", 1 if validates else None),
            **kwargs,
        )
        if pruning is not None:
            self.pruning_ = pruning.summary()

    def predict_trajectory(
        self,
        start: ArrayLike | pd.DataFrame | pd.Series | None = None,
        times: Sequence[float] | None = None,
        adata: AnnData | None = None,
        layer_added: str | None = None,
        *,
        overwrite: bool = False,
    ) -> AnnData | None:
        """Let expression run on from a start, without looking at later data.

        Parameters
        ----------
        start
            Expression to start from, of shape ``[n_genes]`` or ``[n_starts, n_genes]``; a Series or DataFrame is matched
            by its names of genes. If ``None``: the first point of every trajectory of ``adata``.
        times
            Times to predict, increasing; the first is that of the start. Only, and always, with ``start``.
        adata
            AnnData with the model's genes and the columns registered for time and trajectory. The model's own if
            ``None``.
        layer_added
            Write the prediction for every row into this layer of ``adata``. Not with ``start``. Genes the model does
            not know stay as they are.
        overwrite
            Whether an existing layer may be replaced.

        Returns
        -------
        AnnData with a row for each trajectory (or start) and time, ``obs["trajectory"]`` and ``obs["time"]`` (under the
        registered names if there is no ``start``) and the prediction in ``X``; the start itself comes first. ``None``
        with ``layer_added``.
        """
        self._check_is_ready(adata if start is None else None, needs_data=start is None)
        if start is not None:
            if layer_added is not None or adata is not None:
                msg = "adata and layer_added are for trajectories of data; with start the prediction is returned."
                raise ValueError(msg)
            starts, times = self._checked_starts(start), checked_times(times)
            values = self._roll_out(starts, np.tile(times, (len(starts), 1)))
            return self._as_adata(values, times)
        if times is not None:
            msg = "times is given without start; trajectories of data are predicted at their own times."
            raise ValueError(msg)
        adata = self.adata if adata is None else adata
        if layer_added is not None:
            check_layer_is_free(adata, layer_added, overwrite=overwrite)
        values, times, trajectories = self._read(adata)
        predicted = np.empty_like(values)
        for rows, path in self._predict_data(values, times, trajectories):
            predicted[rows] = path
        if layer_added is None:
            keys = [key for key in (self._setup_arg("trajectory_key"), self._setup_arg("time_key")) if key is not None]
            return AnnData(predicted, obs=adata.obs[keys].copy(), var=pd.DataFrame(index=self.var_names_))
        self._write(adata, layer_added, predicted, {"kind": "predict_trajectory"})
        return None

    def get_velocity(
        self, adata: AnnData | None = None, layer_added: str | None = None, *, overwrite: bool = False
    ) -> pd.DataFrame | None:
        """Rate of change of expression at every row.

        Parameters
        ----------
        adata
            AnnData with the model's genes. The model's own if ``None``. Needs no times.
        layer_added
            Write the velocity into this layer of ``adata``; it is 0 for genes the model does not know.
        overwrite
            Whether an existing layer may be replaced.

        Returns
        -------
        DataFrame of shape ``[n_rows, n_genes]``, in units of expression per unit of time; ``None`` with
        ``layer_added``.
        """
        self._check_is_ready(adata)
        adata = self.adata if adata is None else adata
        if layer_added is not None:
            check_layer_is_free(adata, layer_added, overwrite=overwrite)
        velocity = self.module.velocity(torch.from_numpy(self._expression(adata))).cpu().numpy()
        if layer_added is None:
            return pd.DataFrame(velocity, index=adata.obs_names, columns=self.var_names_)
        self._write(adata, layer_added, velocity, {"kind": "velocity"}, others=0.0)
        return None
