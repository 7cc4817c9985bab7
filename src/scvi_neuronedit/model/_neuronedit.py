"""The model class: register, train, look inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin

from scvi_neuronedit.data import check_likelihood, match_gene_sets, unknown_name
from scvi_neuronedit.model._batches import BatchMixin
from scvi_neuronedit.model._combination import CombinationMixin
from scvi_neuronedit.model._editing import EditingMixin
from scvi_neuronedit.model._effect import EffectMixin
from scvi_neuronedit.model._forward import ForwardMixin
from scvi_neuronedit.model._neuron_shifts import NeuronShiftsMixin
from scvi_neuronedit.model._programs import ProgramsMixin, check_program_layer
from scvi_neuronedit.model._resampling import ResamplingMixin
from scvi_neuronedit.model._rows import rows_of
from scvi_neuronedit.model._setup import SetupMixin
from scvi_neuronedit.model._support import SupportMixin
from scvi_neuronedit.model._train_size import default_train_size
from scvi_neuronedit.module import SIZE_FACTOR_KEY, AutoencoderModule, GenePrograms
from scvi_neuronedit.train import EpochTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray
    from scipy import sparse

    from scvi_neuronedit.train import DASHPruning


class NeuronEdit(
    EditingMixin,
    BatchMixin,
    CombinationMixin,
    SupportMixin,
    EffectMixin,
    NeuronShiftsMixin,
    ProgramsMixin,
    ResamplingMixin,
    ForwardMixin,
    SetupMixin,
    UnsupervisedTrainingMixin,
    BaseModelClass,
):
    """Neuron editing: predict cells after a change that was only measured on other cells.

    An autoencoder is trained on all cells by reconstruction alone. An *edit* learnt between a source and a target
    population shifts the activations of its neurons; decoding the edited activations of a third population predicts
    it after the change (Amodio et al., 2018, arXiv 1805.12198; MLSP 2020).

    Parameters
    ----------
    adata
        AnnData registered with :meth:`~scvi_neuronedit.NeuronEdit.setup_anndata`, or MuData registered with
        :meth:`~scvi_neuronedit.NeuronEdit.setup_mudata`. Where methods speak of an AnnData, a model of a MuData takes a
        MuData with the same modalities; see the user guide.
    n_latent
        Number of neurons of the code, the layer that is edited by default.
    hidden
        Widths of the encoder's hidden layers, outermost first; the decoder mirrors them.
    dropout_rate
        Dropout rate of the hidden layers during training.
    likelihood
        ``"normal"`` for log-normalised expression or arcsinh-transformed intensities; ``"nb"`` (negative binomial) or
        ``"poisson"`` for counts. For a MuData, one for all modalities or one for each: ``{"rna": "nb", "prot": "normal"}``.
    n_networks
        Number of autoencoders, trained side by side. Every network is edited; the prediction is the mean over them, and
        their spread is part of the uncertainty. Each costs as much again.
    gene_programs
        Gene sets, by name or as a GMT file, that the first neurons of ``program_layer`` are to stand for. Train with
        ``pruning`` to remove what does not belong to them; the other neurons stay free.
    program_layer
        The first layer, which reads the genes, or the last before the output, which is read by them.
    neuron_graph
        Graph whose neighbouring neurons are to fire together: ``"grid"``, ``"ring"``, ... (see
        :func:`~scvi_neuronedit.nn.named_graph`), ``"learned"``, or an adjacency. ``None`` for no structure.
    graph_weight
        Weight of the penalty; see :class:`~scvi_neuronedit.train.GraphRegularization`.
    graph_layer
        The layer it is for.
    graph_params
        Further arguments of :class:`~scvi_neuronedit.train.GraphRegularization`, such as ``{"shape": (5, 10)}``.
    registry
        Registry of a saved model, used to load it without data.

    Examples
    --------
    >>> NeuronEdit.setup_anndata(adata, condition_key="condition", labels_key="cell_type")
    >>> model = NeuronEdit(adata)
    >>> model.train()
    >>> model.predict_condition("ctrl", "stim", query={"condition": "ctrl", "cell_type": "B"})
    >>> adata.layers["predicted"]
    """

    _training_plan_cls = EpochTrainingPlan

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        n_latent: int = 50,
        hidden: Sequence[int] = (256, 128),
        dropout_rate: float = 0.0,
        likelihood: Literal["normal", "nb", "poisson"] | Mapping[str, str] = "normal",
        n_networks: int = 1,
        gene_programs: Mapping[str, Sequence[str]] | str | PathLike | None = None,
        program_layer: str = "encoder_1",
        neuron_graph: str | ArrayLike | sparse.sparray | None = None,
        graph_weight: float | None = None,
        graph_layer: str = "code",
        graph_params: Mapping[str, Any] | None = None,
        registry: dict | None = None,
    ) -> None:
        super().__init__(adata, registry)
        if n_networks < 1:
            msg = f"n_networks={n_networks}; it must be at least 1."
            raise ValueError(msg)
        likelihoods = self._checked_likelihoods(likelihood)
        self.levels_ = None
        counts_per_size_factor = None
        if adata is not None:
            table = self._table(adata)
            self.var_names_ = table.var_names.astype(str).to_numpy()
            readers = zip(self._reader(table).parts, likelihoods, strict=True)
            self.nonnegative_ = [check_likelihood(reader, name) >= 0 for reader, name in readers]
            counts_per_size_factor = self._counts_per_size_factor(likelihoods[0])
        n_features = self._n_features()
        programs = None
        if gene_programs is not None:
            names = self.var_names_ if adata is not None else self.get_var_names()
            gene_programs = match_gene_sets(gene_programs, names)  # what is saved, not a path
            check_program_layer(program_layer, hidden, n_latent, len(gene_programs))
            programs = GenePrograms(gene_programs, names, program_layer)
        self.module = AutoencoderModule(
            n_features,
            tuple(hidden),
            n_latent,
            dropout_rate,
            likelihoods,
            counts_per_size_factor,
            n_networks,
            programs,
        )
        networks = "autoencoder" if n_networks == 1 else f"{n_networks} autoencoders"
        self._model_summary_string = (
            f"NeuronEdit: {networks} {' -> '.join(map(str, (sum(n_features), *hidden, n_latent)))}, "
            f"likelihood {likelihood!r}, dropout_rate {dropout_rate}."
        )
        self._use_neuron_graph(neuron_graph, graph_weight, graph_layer, graph_params)
        self.init_params_ = self._get_init_params(locals())

    def train(
        self,
        max_epochs: int | None = None,
        batch_size: int = 128,
        train_size: float | None = None,
        early_stopping: bool = False,
        pruning: DASHPruning | None = None,
        **kwargs,
    ) -> None:
        """Train the autoencoder on the registered cells with the trainer of scvi-tools.

        Parameters
        ----------
        max_epochs
            Number of passes through the data. If ``None``: 50 between 2,560 and 20,000 cells, proportionally fewer
            above, and proportionally more below, up to 400.
        batch_size
            Number of cells in a minibatch.
        train_size
            Share of the cells that is trained on. If ``None``: all, or 0.9 where early stopping, checkpointing or
            ``check_val_every_n_epoch`` makes use of the others.
        early_stopping
            Whether to stop when the loss of the cells not trained on no longer improves.
        pruning
            Schedule by which weights are removed; the cells not trained on decide which model is kept.
        **kwargs
            As in scvi-tools: ``accelerator``, ``devices``, ``validation_size``, ``datasplitter_kwargs``,
            ``plan_kwargs``, and all arguments of :class:`scvi.train.Trainer`.
        """
        if self.adata is None:
            msg = "the model was loaded without data; load it with adata to train it."
            raise ValueError(msg)
        if not np.array_equal(self._table(self.adata).var_names, self.var_names_):
            msg = "adata.var_names differ from the features the model was made with; use adata[:, model.var_names_]."
            raise ValueError(msg)
        if max_epochs is None:
            max_epochs = _default_max_epochs(self.adata.n_obs)
        keys = self.module.x_keys + [SIZE_FACTOR_KEY] * (self._setup_arg("size_factor_key") is not None)
        loader = {"data_and_attributes": keys, **kwargs.pop("datasplitter_kwargs", {})}
        if pruning is not None:
            kwargs |= {"callbacks": [*kwargs.get("callbacks", []), pruning], "check_val_every_n_epoch": 1}
        if train_size is None:
            train_size = default_train_size({"early_stopping": early_stopping, **kwargs})
        if self._has_counts and not self.is_trained_ and getattr(self, "trainer", None) is None:
            self._start_at_mean_shares()
        self.levels_ = None
        super().train(
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_size=train_size,
            early_stopping=early_stopping,
            datasplitter_kwargs=loader,
            **kwargs,
        )
        self.levels_ = None  # a callback may have asked for them
        self._level_distributions()

    def _start_at_mean_shares(self) -> None:
        """Start the output for counts at each gene's share of all counts, not at equal shares."""
        table = self._table(self.adata)
        rows = self._sample_of_conditions(table)
        totals = sum(x.sum(dim=0) for _, _, x, _ in self._minibatches(table, rows, None, silent=True))
        for head, columns in zip(self.module.heads, self.module.columns, strict=True):
            if head.is_count:
                self.module.start_output(columns, torch.log(totals[columns] + 0.5))

    def get_activations(
        self,
        adata: AnnData | None = None,
        layer: str = "code",
        *,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        silent: bool = True,
    ) -> NDArray[np.float32]:
        """Activations of a layer of the network.

        Parameters
        ----------
        adata
            AnnData with the model's features, in any order; need not be registered. The model's own if ``None``.
        layer
            Name of the layer: ``"encoder_1"``, ..., ``"code"``, ``"decoder_1"``, ..., ``"output"``. Of several networks
            the activations stand side by side, unless one is named: ``"code/2"``.
        indices
            Positions of the cells, in the order wanted. All if ``None``.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        Array of shape ``[n_cells, n_neurons]``.
        """
        adata = self._checked_adata(adata)
        self._check_layer(layer)
        rows = rows_of(adata, indices)
        return self._activations(adata, rows, layer, batch_size=batch_size, silent=silent)

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """The code of each cell: the activations of layer ``"code"``, of several networks side by side.

        Parameters
        ----------
        adata
            AnnData with the model's features, in any order; need not be registered. The model's own if ``None``.
        indices
            Positions of the cells, in the order wanted. All if ``None``.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.

        Returns
        -------
        Array of shape ``[n_cells, n_networks * n_latent]``.
        """
        return self.get_activations(adata, "code", indices=indices, batch_size=batch_size)

    def get_normalized_expression(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1,
        batch_size: int | None = None,
        return_numpy: bool | None = None,
        silent: bool = True,
    ) -> NDArray[np.float32] | pd.DataFrame:
        """Decoded expression of each cell, without any edit.

        The network is deterministic and takes no batch, so scvi-tools' ``n_samples`` and ``transform_batch`` have no
        counterpart here.

        Parameters
        ----------
        adata
            AnnData with the model's features, in any order; need not be registered. The model's own if ``None``.
        indices
            Positions of the cells, in the order wanted. All if ``None``.
        gene_list
            Features to return, in the order wanted. All if ``None``.
        library_size
            With a count likelihood: the total that each cell's expected counts are scaled to (in each modality), or ``"latent"`` for the
            cell's own library size. Without effect for the normal likelihood, whose values are on the scale of the
            registered layer.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        return_numpy
            Whether to return an array instead of a DataFrame.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        Expression of shape ``[n_cells, n_features]``; a DataFrame has obs names and feature names.
        """
        adata = self._checked_adata(adata)
        if isinstance(gene_list, str):
            msg = f"gene_list={gene_list!r} is a string; pass a list of names."
            raise TypeError(msg)
        names = pd.Index(self.var_names_)
        columns = np.arange(len(names)) if gene_list is None else names.get_indexer(gene_list)
        if (columns < 0).any():
            unknown = np.asarray(gene_list)[columns < 0][0]
            raise ValueError(unknown_name("gene_list entry", str(unknown), "the model's features", names))
        rows = rows_of(adata, indices)
        values = np.empty((len(rows), len(columns)), dtype=np.float32)
        for where, _, x, size_factor in self._minibatches(adata, rows, batch_size, silent=silent):
            expected = self.module.edit(x, size_factor, {})[0].mean(dim=0)
            if self._has_counts and library_size != "latent":
                expected = self.module.scale_counts(expected, library_size)
            values[where] = expected.cpu().numpy()[:, columns]
        if return_numpy:
            return values
        return pd.DataFrame(values, index=adata.obs_names[rows], columns=names[columns])


def _default_max_epochs(n_cells: int) -> int:
    if n_cells < 2_560:  # as many steps as 2,560 cells take
        return min(400, round(50 * 2_560 / n_cells))
    return max(1, min(50, round(50 * 20_000 / n_cells)))
