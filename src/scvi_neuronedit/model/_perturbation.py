"""What SAMS-VAE and its relatives share: register, train, look inside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager
from scvi.data.fields import CategoricalObsField, LayerField, ObsmField
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin
from scvi.utils import setup_anndata_dsp, track

from scvi_neuronedit.data import (
    DosageCode,
    MatrixReader,
    check_likelihood,
    check_obs_column,
    check_unique_features,
    find_dosages,
    listed,
    match_features,
    read_dosages,
    summarize_values,
    unknown_name,
    use_csr_matrix,
    warn_of_inseparable_perturbations,
    warn_of_rare_perturbations,
)
from scvi_neuronedit.model._fingerprint import fingerprint_model
from scvi_neuronedit.model._perturbation_inspection import PerturbationInspectionMixin
from scvi_neuronedit.model._perturbation_neurons import PerturbationNeuronsMixin
from scvi_neuronedit.model._perturbation_prediction import PerturbationPredictionMixin
from scvi_neuronedit.model._random import seeded
from scvi_neuronedit.model._train_size import default_train_size
from scvi_neuronedit.module import DOSAGE_KEY, PERTURBATION_LIKELIHOODS, PerturbationModule
from scvi_neuronedit.train import PerturbationTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse
    from torch import nn

_OBSM_KEY = "_scvi_dosage"
_UNS_KEY = "_scvi_perturbations"
_MIN_SD = 1e-3
_DEFAULT_MAX_STEPS = 30_000
_PLAN = {"lr": 3e-4, "eps": 1e-8, "weight_decay": 0.0, "lr_schedule": "cosine"}


class PerturbationModel(
    PerturbationInspectionMixin,
    PerturbationNeuronsMixin,
    PerturbationPredictionMixin,
    UnsupervisedTrainingMixin,
    BaseModelClass,
):
    """Base of the models of perturbations; not to be used itself."""

    _training_plan_cls = PerturbationTrainingPlan
    _combinations_as_unique = False

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_anndata(
        cls,
        adata: AnnData,
        perturbation_key: str | None = None,
        dosage_key: str | None = None,
        control: str | None = None,
        separator: str = "+",
        batch_key: str | None = None,
        layer: str | None = None,
        combinations_as_unique: bool | None = None,
        **kwargs,
    ) -> None:
        """%(summary)s.

        The dosages are kept in ``adata.obsm["_scvi_dosage"]``. A sparse layer that is not a CSR matrix is replaced by one.

        Parameters
        ----------
        %(param_adata)s
        perturbation_key
            Column of ``adata.obs`` with the label of each cell's perturbation; combinations are written with
            ``separator``, such as ``"A+B"`` (dosage 1 of each; the control as a part counts for nothing).
        dosage_key
            Key of ``adata.obsm`` with the dosage of each perturbation, not negative, zero in all for control
            cells: a DataFrame with a column for each, or an array. Instead of ``perturbation_key``.
        control
            Label of the control cells. Needed with ``perturbation_key``.
        separator
            Text between the names in the label of a combination.
        batch_key
            Column of ``adata.obs`` with the batch of each cell, an input of the decoder.
        layer
            Layer with counts (``likelihood="nb"``) or continuous values (``"normal"``); ``X`` if ``None``.
        combinations_as_unique
            Whether each combination is a perturbation of its own. Unseen combinations can then not be predicted. If
            ``None``: no, but for SVAEPlus yes.

        Raises
        ------
        KeyError
            A column, layer or key is missing.
        ValueError
            The control is missing, or labels or dosages are wrong.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        if adata.is_view:
            msg = "adata is a view of another AnnData; pass adata.copy()."
            raise ValueError(msg)
        if (perturbation_key is None) == (dosage_key is None):
            msg = f"perturbation_key={perturbation_key!r} and dosage_key={dosage_key!r}; pass one of them."
            raise ValueError(msg)
        check_unique_features(adata)
        check_obs_column(adata, "batch_key", batch_key)
        summarize_values(MatrixReader(adata, layer))
        unique = cls._combinations_as_unique if combinations_as_unique is None else combinations_as_unique
        setup_method_args["setup_args"]["combinations_as_unique"] = unique
        keys = {"perturbation_key": perturbation_key, "dosage_key": dosage_key}
        if kwargs.get("source_registry") is not None:
            code = _code_of(kwargs["source_registry"])
            dosages = find_dosages(adata, code, **keys)
        else:
            code = _new_code(adata, **keys, control=control, separator=separator, unique=unique)
            dosages = find_dosages(adata, code, **keys)
            _check_new_dosages(adata, code, dosages, **keys)

        use_csr_matrix(adata, layer)
        adata.obsm[_OBSM_KEY] = dosages
        adata.uns[_UNS_KEY] = np.array(code.names)
        fields = [
            LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
            ObsmField(DOSAGE_KEY, _OBSM_KEY, colnames_uns_key=_UNS_KEY),
        ]
        if batch_key is not None:
            fields.append(CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key))
        adata_manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        adata_manager.register_fields(adata, **kwargs)
        cls.register_manager(adata_manager)

    def _set_module(
        self, adata: AnnData | None, shift: nn.Module | None, n_latent: int, likelihood: str, **arguments: Any
    ) -> None:
        if likelihood not in PERTURBATION_LIKELIHOODS:
            raise ValueError(unknown_name("likelihood", likelihood, "the likelihoods", PERTURBATION_LIKELIHOODS))
        if adata is not None:
            self.var_names_ = adata.var_names.astype(str).to_numpy()
            check_likelihood(MatrixReader(adata, self._setup_arg("layer")), likelihood)
        n_batch = self.summary_stats.get("n_batch", 1)
        self.module = PerturbationModule(
            self.summary_stats.n_vars,
            len(self.perturbations),
            n_latent,
            shift,
            n_batch=n_batch,
            likelihood=likelihood,
            **arguments,
        )
        self._model_summary_string = (
            f"{type(self).__name__}: {len(self.perturbations)} perturbations, n_latent {n_latent}, "
            f"likelihood {likelihood!r}, {n_batch} batch(es)."
        )

    def train(
        self,
        max_steps: int | None = None,
        max_epochs: int | None = None,
        batch_size: int = 512,
        train_size: float | None = None,
        **kwargs,
    ) -> None:
        """Maximise the ELBO for a set number of steps with the trainer of scvi-tools.

        On a CPU, fewer particles (``n_particles=1``), narrower networks and a larger learning rate make training a matter of
        minutes; the defaults are those of the paper, but for the learning rate, which is constant and the same for all
        parameters there (``plan_kwargs={"lr_schedule": "constant", "effect_lr_factor": 1}``).

        Parameters
        ----------
        max_steps
            Number of training steps. If ``None``: what ``max_epochs`` says, or 30,000 if that is ``None`` too.
        max_epochs
            Number of passes through the data, at most.
        batch_size
            Number of cells in a minibatch.
        train_size
            Share of the cells that is trained on, drawn with ``scvi.settings.seed``; the others are for validation. If
            ``None``: all, or 0.9 where early stopping, checkpointing or ``check_val_every_n_epoch`` makes use of the others.
        **kwargs
            As in scvi-tools: ``accelerator``, ``devices``, ``plan_kwargs`` (Adam with ``lr=3e-4``, ``eps=1e-8``, no weight decay and
            ``lr_schedule="cosine"`` if not given, effects ten times as fast, see :class:`~scvi_neuronedit.train.PerturbationTrainingPlan`), and all arguments of
            :class:`scvi.train.Trainer` (``gradient_clip_val=100`` if not given).
        """
        if self.adata is None:
            msg = "the model was loaded without data; load it with adata to train it."
            raise ValueError(msg)
        if not np.array_equal(self.adata.var_names, self.var_names_):
            msg = "adata.var_names differ from the features the model was made with; use adata[:, model.var_names_]."
            raise ValueError(msg)
        if train_size is None:
            train_size = default_train_size(kwargs)
        if not 0 < train_size <= 1:
            msg = f"train_size={train_size}; it must be above 0 and at most 1."
            raise ValueError(msg)
        n_cells = self.adata.n_obs
        n_train = max(1, round(train_size * n_cells))
        order = np.random.default_rng(settings.seed).permutation(n_cells)
        if not self.is_trained_:
            self._standardize_input(np.sort(order[:n_train]))
        self.n_train_ = n_train
        # another model may have been registered with these cells since
        self.adata.obsm[_OBSM_KEY] = self._dosages(self.adata)
        steps_per_epoch = math.ceil(n_train / batch_size)
        if max_steps is None:
            max_steps = _DEFAULT_MAX_STEPS if max_epochs is None else max_epochs * steps_per_epoch
        loader = kwargs.pop("datasplitter_kwargs", {})
        super().train(
            max_epochs=math.ceil(max_steps / steps_per_epoch) if max_epochs is None else max_epochs,
            max_steps=max_steps,
            batch_size=batch_size,
            datasplitter_kwargs={"external_indexing": [order[:n_train], order[n_train:]], **loader},
            plan_kwargs={**_PLAN, **kwargs.pop("plan_kwargs", {})},
            **{"gradient_clip_val": 100, **kwargs},
        )

    def _standardize_input(self, rows: NDArray[np.intp]) -> None:
        """Mean and standard deviation of the encoder's input over the training cells."""
        reader = MatrixReader(self.adata, self._setup_arg("layer"))
        total, square = 0.0, 0.0
        for block in np.array_split(rows, math.ceil(len(rows) / 4096)):
            x = reader(block).astype(np.float64)
            x = np.log1p(x) if self.module.likelihood == "nb" else x
            total, square = total + x.sum(axis=0), square + (x**2).sum(axis=0)
        mean = total / len(rows)
        sd = np.sqrt(np.maximum(square / len(rows) - mean**2, 0))
        self.module.input_mean.copy_(torch.from_numpy(mean))
        self.module.input_sd.copy_(torch.from_numpy(np.where(sd > _MIN_SD, sd, 1.0)))

    @property
    def perturbations(self) -> tuple[str, ...]:
        """Names of the perturbations, in the order of the dosages."""
        return self._code.names

    @property
    def fingerprint(self) -> str:
        """Short hash of the features and weights. Two models with the same one compute the same."""
        return fingerprint_model((*self.var_names_, *self.perturbations), self.module)

    @property
    def _code(self) -> DosageCode:
        return _code_of(self.registry)

    def _setup_arg(self, name: str) -> Any:
        return self.registry["setup_args"][name]

    def _check_trained(self) -> None:
        if not self.is_trained_:
            msg = "the model is not trained; call train() first."
            raise RuntimeError(msg)

    def _checked_adata(self, adata: AnnData | None) -> AnnData:
        self._check_trained()
        adata = self.adata if adata is None else adata
        if adata is None:
            msg = "the model was loaded without data; pass adata."
            raise ValueError(msg)
        return adata

    def _dosages(self, adata: AnnData) -> sparse.csr_matrix:
        """Dosages of all cells, in the order of the perturbations."""
        keys = {name: self._setup_arg(name) for name in ("perturbation_key", "dosage_key")}
        return find_dosages(adata, self._code, **keys)

    def _batches(self, adata: AnnData) -> NDArray[np.float32] | None:
        """Code of each cell's batch, of shape ``[n_cells, 1]``; ``None`` without batches."""
        batch_key = self._setup_arg("batch_key")
        if batch_key is None:
            return None
        check_obs_column(adata, "batch_key", batch_key)
        known = [str(name) for name in self.get_state_registry(REGISTRY_KEYS.BATCH_KEY).categorical_mapping]
        batches = adata.obs[batch_key].astype(str)
        codes = pd.Index(known).get_indexer(batches)
        if (codes < 0).any():
            place = "the batches the model was registered with"
            raise ValueError(unknown_name("batch", batches.to_numpy()[codes < 0][0], place, known))
        return codes.astype(np.float32)[:, None]

    def _minibatches(
        self, adata: AnnData, rows: NDArray[np.intp], batch_size: int | None, *, silent: bool = True
    ) -> Iterator[tuple[slice, NDArray[np.float32], torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        """Where among ``rows``, the rows of the layer, cells, dosages and batches, minibatch by minibatch."""
        reader = MatrixReader(adata, self._setup_arg("layer"))
        columns = match_features(adata, self.var_names_)
        dosages, batches = self._dosages(adata), self._batches(adata)
        device = self.module.device
        self.module.eval()
        batch_size = batch_size or settings.batch_size
        for first in track(range(0, len(rows), batch_size), description="Cells", disable=silent):
            where = slice(first, first + batch_size)
            values = reader(rows[where])
            x = values[:, columns]
            if not np.isfinite(x).all() or (self.module.likelihood == "nb" and (x < 0).any()):
                msg = f"{reader.name} holds NaN, infinite values or, for counts, negative ones."
                raise ValueError(msg)
            dosage = torch.from_numpy(dosages[rows[where]].toarray()).to(device)
            batch = None if batches is None else torch.from_numpy(batches[rows[where]]).to(device)
            yield where, values, torch.from_numpy(x).to(device), dosage, batch

    def _encoded_minibatches(
        self, adata: AnnData, rows: NDArray[np.intp], batch_size: int | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]]:
        """Cells, dosages, batches, mean basal latent variables and shifts, at the posterior mean of all shifts."""
        with torch.no_grad(), seeded(0):
            shifts = None if self.module.shift is None else self.module.shift.moments().mean[None]
        for _, _, x, dosage, batch in self._minibatches(adata, rows, batch_size):
            with torch.no_grad():
                shift = self.module.total_shift(dosage, shifts)
                basal, _ = self.module.encode(x, dosage, shift)
            yield x, dosage, batch, basal, shift


def _code_of(registry: dict[str, Any]) -> DosageCode:
    """The perturbations that a registry was made with."""
    arguments = registry["setup_args"]
    names = registry["field_registries"][DOSAGE_KEY]["state_registry"][ObsmField.COLUMN_NAMES_KEY]
    control, separator = arguments["control"], arguments["separator"]
    return DosageCode(tuple(map(str, names)), control, separator, arguments["combinations_as_unique"])


def _new_code(
    adata: AnnData,
    *,
    perturbation_key: str | None,
    dosage_key: str | None,
    control: str | None,
    separator: str,
    unique: bool,
) -> DosageCode:
    """The perturbations that labels or dosages name."""
    if not separator:
        msg = "separator is empty; for labels that are never split pass one that no label holds."
        raise ValueError(msg)
    if perturbation_key is None:
        _, names = read_dosages(adata, dosage_key)
        return DosageCode(tuple(names), control, separator, unique)
    check_obs_column(adata, "perturbation_key", perturbation_key)
    labels = adata.obs[perturbation_key].astype(str).unique().tolist()
    if control is None:
        msg = f"control is not given; it must be one of adata.obs[{perturbation_key!r}] ({listed(labels)})."
        raise ValueError(msg)
    return DosageCode.from_labels(labels, control, separator, combinations_as_unique=unique)


def _check_new_dosages(
    adata: AnnData,
    code: DosageCode,
    dosages: sparse.csr_matrix,
    *,
    perturbation_key: str | None,
    dosage_key: str | None,
) -> None:
    """Refuse dosages without controls, or mixed ones where they must not be; warn of what cannot be learnt."""
    n_cells = dict(zip(code.names, dosages.getnnz(axis=0).tolist(), strict=True))
    if perturbation_key is not None:
        n_cells |= adata.obs[perturbation_key].astype(str).value_counts().drop(code.control).to_dict()
    else:
        per_cell = dosages.getnnz(axis=1)
        if not (per_cell == 0).any():
            msg = (
                f"dosage_key: no row of adata.obsm[{dosage_key!r}] is zero in all columns, so there is no control cell."
            )
            raise ValueError(msg)
        if code.combinations_as_unique and ((per_cell > 1).any() or (dosages.data != 1).any()):
            msg = (
                f"combinations_as_unique=True needs one perturbation of dosage 1 per cell, but adata.obsm[{dosage_key!r}] "
                "holds others; pass perturbation_key, or combinations_as_unique=False."
            )
            raise ValueError(msg)
    warn_of_rare_perturbations(n_cells)
    warn_of_inseparable_perturbations(dosages, code.names)
