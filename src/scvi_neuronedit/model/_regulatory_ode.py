"""Regulatory dynamics as a model class: register trajectories, train, prune, roll out."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

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
    match_features,
    match_prior,
    record_layer,
    summarize_values,
    trajectories_in_order,
    unknown_name,
    use_csr_matrix,
)
from scvi_neuronedit.model._regulatory_network import RegulatoryNetworkMixin, checked_times
from scvi_neuronedit.module import RegulatoryODEModule
from scvi_neuronedit.nn import SOLVERS
from scvi_neuronedit.train import PairSplitter, RegulatoryTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

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


class RegulatoryODE(RegulatoryNetworkMixin, UnsupervisedTrainingMixin, BaseModelClass):
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

    # ---- helpers ---------------------------------------------------------------------------------------------------

    def _setup_arg(self, name: str) -> Any:
        return self.registry["setup_args"][name]

    def _check_is_ready(self, adata: AnnData | None, *, needs_data: bool = True) -> None:
        if not self.is_trained_:
            msg = "the model is not trained; call train() first."
            raise RuntimeError(msg)
        if needs_data and adata is None and self.adata is None:
            msg = "the model was loaded without data; pass adata."
            raise ValueError(msg)

    def _expression(self, adata: AnnData) -> NDArray[np.float32]:
        """Expression of the model's genes, checked, of shape ``[n_rows, n_genes]``."""
        reader = MatrixReader(adata, self._setup_arg("layer"))
        values = reader(np.arange(adata.n_obs))[:, match_features(adata, self.var_names_)]
        if not np.isfinite(values).all():
            msg = f"{reader.name} holds NaN or infinite values."
            raise ValueError(msg)
        return values

    def _read(self, adata: AnnData) -> tuple[NDArray[np.float32], NDArray[np.float64], list[NDArray[np.intp]]]:
        """Expression, times, and the rows of every trajectory."""
        time_key = self._setup_arg("time_key")
        trajectories = trajectories_in_order(adata, time_key, self._setup_arg("trajectory_key"))
        return self._expression(adata), adata.obs[time_key].to_numpy(dtype=float), trajectories

    def _predict_data(
        self, values: NDArray[np.float32], times: NDArray[np.float64], trajectories: list[NDArray[np.intp]]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Rows of every trajectory, and what is predicted there from the first of them; all in one roll-out."""
        lengths = [len(rows) for rows in trajectories]
        padded = np.stack([np.pad(times[rows], (0, max(lengths) - len(rows)), mode="edge") for rows in trajectories])
        paths = self._roll_out(np.stack([values[rows[0]] for rows in trajectories]), padded)
        for rows, path in zip(trajectories, paths, strict=True):
            yield rows, path[: len(rows)]

    def _roll_out(
        self, start: NDArray[np.float32], times: NDArray[np.float64], clamped: Sequence[str] = ()
    ) -> NDArray[np.float32]:
        """Paths of shape ``[n_starts, n_times, n_genes]`` at ``times`` of shape ``[n_starts, n_times]``."""
        mask = torch.from_numpy(np.isin(self.var_names_, list(clamped))) if len(clamped) else None
        path = [torch.from_numpy(start)]
        for duration in np.diff(times, axis=1).T:
            path.append(self.module.step(path[-1], torch.from_numpy(duration.astype(np.float32)), clamped=mask).cpu())
        return torch.stack(path, dim=1).numpy()

    def _checked_starts(self, start: ArrayLike | pd.DataFrame | pd.Series) -> NDArray[np.float32]:
        if isinstance(start, pd.Series):
            start = start.to_frame().T
        if isinstance(start, pd.DataFrame):
            if missing := [gene for gene in self.var_names_ if gene not in start.columns]:
                msg = f"start lacks {len(missing)} of the model's {len(self.var_names_)} genes, such as {missing[0]!r}."
                raise ValueError(msg)
            start = start[self.var_names_].to_numpy()
        start = np.atleast_2d(np.asarray(start, dtype=np.float32))
        if start.ndim != 2 or start.shape[1] != len(self.var_names_):
            msg = f"start has shape {start.shape}; it needs {len(self.var_names_)} genes in its last dimension."
            raise ValueError(msg)
        if not np.isfinite(start).all():
            msg = "start holds NaN or infinite values."
            raise ValueError(msg)
        return start

    def _as_adata(self, values: NDArray[np.float32], times: NDArray[np.float64]) -> AnnData:
        """Paths of shape ``[n_starts, n_times, n_genes]``, one after the other."""
        names = [f"start_{i + 1}" for i in range(len(values))]
        obs = pd.DataFrame(
            {"trajectory": pd.Categorical(np.repeat(names, len(times))), "time": np.tile(times, len(values))},
            index=[f"{name}_{i + 1}" for name in names for i in range(len(times))],
        )
        return AnnData(values.reshape(-1, values.shape[-1]), obs=obs, var=pd.DataFrame(index=self.var_names_))

    def _write(
        self, adata: AnnData, layer: str, values: NDArray, record: dict[str, Any], others: float | None = None
    ) -> None:
        """Write values of the model's genes into a layer of all genes, with a record."""
        matrix = MatrixReader(adata, self._setup_arg("layer"))(np.arange(adata.n_obs))
        if others is not None:
            matrix[:] = others
        matrix[:, match_features(adata, self.var_names_)] = values
        adata.layers[layer] = matrix
        record_layer(adata, layer, {**record, "layer": self._setup_arg("layer") or "X", **self.module.solving})
