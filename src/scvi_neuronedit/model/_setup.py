"""Registering data: which layer, which modalities, which columns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mudata import MuData
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager
from scvi.data.fields import (
    CategoricalObsField,
    LayerField,
    MuDataCategoricalObsField,
    MuDataLayerField,
    NumericalObsField,
)
from scvi.utils import setup_anndata_dsp

from scvi_neuronedit.data import (
    JoinedModalities,
    MatrixReader,
    check_obs_column,
    check_size_factors,
    check_unique_features,
    listed,
    summarize_values,
    unknown_name,
    use_csr_matrix,
)
from scvi_neuronedit.module import LIKELIHOODS, SIZE_FACTOR_KEY, modality_keys

if TYPE_CHECKING:
    from anndata import AnnData

CONDITION_KEY = "condition"
_MODALITY_ARGUMENTS = "rna_layer", "protein_layer"
_TRANSFER_ARGUMENTS = "source_registry", "extend_categories", "allow_missing_labels"


class SetupMixin:
    """Methods that register an AnnData or a MuData."""

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        condition_key: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        **kwargs,
    ) -> None:
        """%(summary)s.

        None of the obs columns is an input of the network. A sparse layer that is not a CSR matrix is replaced by one.

        Parameters
        ----------
        %(param_adata)s
        layer
            Layer with the data; ``X`` if ``None``. Log-normalised expression or arcsinh-transformed intensities for
            ``likelihood="normal"``, counts for ``"nb"`` and ``"poisson"``.
        condition_key
            Column of ``adata.obs`` with the condition of each cell, whose values can then be named as ``source``,
            ``target`` or ``query``.
        batch_key
            Column of ``adata.obs`` with the batch of each cell.
        labels_key
            Column of ``adata.obs`` with the cell type of each cell. Edits are learnt between populations matched on
            it.
        size_factor_key
            Column of ``adata.obs`` with positive size factors, used by the count likelihoods in place of the total
            counts.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        if isinstance(adata, MuData):
            msg = "adata is a MuData; register it with setup_mudata."
            raise TypeError(msg)
        if adata.is_view:
            msg = "adata is a view of another AnnData; pass adata.copy()."
            raise ValueError(msg)
        check_unique_features(adata)
        columns = _checked_columns(adata, condition_key, batch_key, labels_key)
        check_size_factors(adata, size_factor_key)
        summarize_values(MatrixReader(adata, layer))

        use_csr_matrix(adata, layer)
        fields = [LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False)]
        fields += [CategoricalObsField(key, column) for key, column in columns.items()]
        if size_factor_key is not None:
            fields.append(NumericalObsField(SIZE_FACTOR_KEY, size_factor_key))
        cls._register(adata, fields, setup_method_args, **kwargs)

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        protein_layer: str | None = None,
        condition_key: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        modalities: Mapping[str, str] | None = None,
        **kwargs,
    ) -> None:
        """%(summary_mdata)s.

        One modality, or two measured on the same cells. None of the obs columns is an input of the network. A sparse layer
        that is not a CSR matrix is replaced by one.

        Parameters
        ----------
        %(param_mdata)s
        rna_layer, protein_layer
            Layer of the modality with the data; ``X`` if ``None``. Log-normalised expression or transformed intensities
            (arcsinh, CLR, DSB) for ``likelihood="normal"``, counts for ``"nb"`` and ``"poisson"``.
        condition_key
            Column of ``mdata.obs`` with the condition of each cell, whose values can then be named as ``source``,
            ``target`` or ``query``.
        batch_key
            Column of ``mdata.obs`` with the batch of each cell.
        labels_key
            Column of ``mdata.obs`` with the cell type of each cell. Edits are learnt between populations matched on
            it.
        modalities
            Names of the modalities: ``{"rna_layer": "rna", "protein_layer": "prot"}``, or one of the two. Others are
            left alone.

        Raises
        ------
        KeyError, TypeError, ValueError
            A modality, layer or column is missing; a modality lacks cells or holds them in another order than
            ``mdata``; values are NaN or infinite. Nothing has been registered then.

        Examples
        --------
        >>> NeuronEdit.setup_mudata(
        ...     mdata, protein_layer="dsb", modalities={"rna_layer": "rna", "protein_layer": "prot"}
        ... )
        >>> model = NeuronEdit(mdata, likelihood={"rna": "nb", "prot": "normal"})
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        if not isinstance(mdata, MuData):
            msg = f"mdata is of type {type(mdata).__name__}, not a MuData; see setup_anndata for AnnData."
            raise TypeError(msg)
        if mdata.is_view:
            msg = "mdata is a view of another MuData; pass mdata.copy()."
            raise ValueError(msg)
        _check_modalities(mdata, rna_layer, protein_layer, modalities)
        layers = modality_layers(rna_layer, protein_layer, modalities)
        table = JoinedModalities(mdata, layers)
        if table.is_view:
            msg = "a modality of mdata is a view of another AnnData; make the MuData of copies."
            raise ValueError(msg)
        for key in (condition_key, batch_key, labels_key):
            _check_column_is_pulled(table, key)
        columns = _checked_columns(table, condition_key, batch_key, labels_key)
        for reader in table.reader.parts:
            summarize_values(reader)

        fields = []
        for key, (name, layer) in zip(modality_keys(REGISTRY_KEYS.X_KEY, len(layers)), layers.items(), strict=True):
            use_csr_matrix(mdata.mod[name], layer)
            fields.append(MuDataLayerField(key, layer, mod_key=name, is_count_data=False, mod_required=True))
        fields += [MuDataCategoricalObsField(key, column) for key, column in columns.items()]
        cls._register(mdata, fields, setup_method_args, **kwargs)

    @classmethod
    def _register(cls, adata: AnnData | MuData, fields: list, setup_method_args: dict, **kwargs) -> None:
        # scvi-tools would take no notice of a misspelt argument
        if unknown := [name for name in kwargs if name not in _TRANSFER_ARGUMENTS]:
            setup = setup_method_args["setup_method_name"]
            raise TypeError(unknown_name("argument", unknown[0], setup, list(setup_method_args["setup_args"])))
        if kwargs.get("source_registry") is not None:
            # no category is an input of the network, so new ones do no harm
            kwargs.setdefault("extend_categories", True)
        adata_manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        adata_manager.register_fields(adata, **kwargs)
        cls.register_manager(adata_manager)

    def _setup_arg(self, name: str) -> str | None:
        return self.registry["setup_args"].get(name)

    @property
    def _modalities(self) -> dict[str, str | None] | None:
        """The layer of every modality of a MuData, in the order of the model's features; ``None`` for an AnnData."""
        if self._setup_arg("modalities") is None:
            return None
        return modality_layers(*map(self._setup_arg, (*_MODALITY_ARGUMENTS, "modalities")))

    def _describe_data(self) -> dict[str, str]:
        """Registered layer and likelihood, of every modality, as the record of a layer holds them."""
        likelihoods = [head.likelihood for head in self.module.heads]
        if self._modalities is None:
            return {"layer": self._setup_arg("layer") or "X", "likelihood": likelihoods[0]}
        layers = [f"{name}: {layer or 'X'}" for name, layer in self._modalities.items()]
        pairs = zip(self._modalities, likelihoods, strict=True)
        return {"layer": ", ".join(layers), "likelihood": ", ".join(f"{name}: {value}" for name, value in pairs)}

    def _n_features(self) -> list[int]:
        """Number of features of every modality."""
        if self._modalities is None:
            return [self.summary_stats.n_vars]
        keys = modality_keys(REGISTRY_KEYS.X_KEY, len(self._modalities))
        return [self.summary_stats["n_vars" if key == REGISTRY_KEYS.X_KEY else f"n_{key}"] for key in keys]

    def _checked_likelihoods(self, likelihood: str | Mapping[str, str]) -> list[str]:
        """The likelihood of every modality; of an AnnData, its own."""
        if self._modalities is None or isinstance(likelihood, str):
            likelihoods = [likelihood] * len(self._modalities or [None])
        else:
            if unknown := [name for name in likelihood if name not in self._modalities]:
                raise ValueError(unknown_name("likelihood for", unknown[0], "the modalities", list(self._modalities)))
            if missing := [name for name in self._modalities if name not in likelihood]:
                msg = f"likelihood names none for modality {listed(missing)}; give one for each, or one for all."
                raise ValueError(msg)
            likelihoods = [likelihood[name] for name in self._modalities]
        for name in likelihoods:
            if isinstance(name, Mapping):
                msg = f"likelihood={name!r}; a mapping of modalities to likelihoods needs a MuData."
                raise TypeError(msg)
            if name not in LIKELIHOODS:
                raise ValueError(unknown_name("likelihood", name, "the likelihoods", LIKELIHOODS))
        return likelihoods

    def _counts_per_size_factor(self, likelihood: str) -> float | None:
        size_factor_key = self._setup_arg("size_factor_key")
        if size_factor_key is None:
            return None
        if likelihood == "normal":
            msg = "size_factor_key has no effect with likelihood='normal'."
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
            return None
        reader = MatrixReader(self.adata, self._setup_arg("layer"))
        return sum(float(block.sum()) for block in reader.blocks()) / float(self.adata.obs[size_factor_key].sum())


def modality_layers(
    rna_layer: str | None, protein_layer: str | None, modalities: Mapping[str, str]
) -> dict[str, str | None]:
    """Layers by name of modality, RNA first."""
    layers = zip(_MODALITY_ARGUMENTS, (rna_layer, protein_layer), strict=True)
    return {modalities[argument]: layer for argument, layer in layers if argument in modalities}


def _check_modalities(
    mdata: MuData, rna_layer: str | None, protein_layer: str | None, modalities: Mapping[str, str] | None
) -> None:
    example = "{'rna_layer': 'rna', 'protein_layer': 'prot'}, or one of the two"
    if not modalities:
        msg = f"modalities={modalities!r}; name the modalities of mdata ({listed(mdata.mod)}) such as {example}."
        raise ValueError(msg)
    for argument in modalities:
        if argument not in _MODALITY_ARGUMENTS:
            hint = " Columns are always taken from mdata.obs." if argument.endswith("_key") else ""
            raise ValueError(unknown_name("modalities entry", argument, "the arguments", _MODALITY_ARGUMENTS) + hint)
    if len(set(modalities.values())) < len(modalities):
        msg = f"modalities={dict(modalities)!r} names one modality twice."
        raise ValueError(msg)
    for argument, layer in zip(_MODALITY_ARGUMENTS, (rna_layer, protein_layer), strict=True):
        if layer is not None and argument not in modalities:
            msg = f"{argument}={layer!r}, but modalities does not say of which modality: {argument!r} is not in it."
            raise ValueError(msg)


def _check_column_is_pulled(table: JoinedModalities, column: str | None) -> None:
    """A column of a modality only is not one of the MuData."""
    if column is None or column in table.obs:
        return
    if owners := [name for name, adata in table.modalities.items() if column in adata.obs]:
        msg = (
            f"column {column!r} is in mdata[{owners[0]!r}].obs, not in mdata.obs; copy it with "
            f"mdata.obs[{column!r}] = mdata[{owners[0]!r}].obs[{column!r}]."
        )
        raise KeyError(msg)


def _checked_columns(
    adata: AnnData | JoinedModalities, condition_key: str | None, batch_key: str | None, labels_key: str | None
) -> dict[str, str]:
    """Columns by registry key, without those that are not used."""
    arguments = {"condition_key": condition_key, "batch_key": batch_key, "labels_key": labels_key}
    for argument, column in arguments.items():
        check_obs_column(adata, argument, column, "mdata" if isinstance(adata, JoinedModalities) else "adata")
    keys = CONDITION_KEY, REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY
    return {key: column for key, column in zip(keys, arguments.values(), strict=True) if column is not None}
