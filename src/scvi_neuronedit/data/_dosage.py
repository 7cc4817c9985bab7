"""Which perturbations a cell received, and how much of each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse
from scvi import settings

from scvi_neuronedit.data._names import listed, unknown_name
from scvi_neuronedit.data._obs import check_obs_column

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

MIN_CELLS_PER_PERTURBATION = 10

Perturbation: TypeAlias = str | Sequence[str] | Mapping[str, float]
"""A label such as ``"A+B"``; names that act together, ``["A", "B"]``; or dosages by name, ``{"A": 0.5}``."""


@dataclass(frozen=True)
class DosageCode:
    """Translates labels of perturbations into dosages.

    Parameters
    ----------
    names
        Perturbations, one for each column of the dosages.
    control
        Label of cells without any perturbation; all their dosages are zero.
    separator
        Text between the names in the label of a combination.
    combinations_as_unique
        Whether a combination is a perturbation of its own rather than the sum of its parts.
    """

    names: tuple[str, ...]
    control: str | None
    separator: str
    combinations_as_unique: bool = False

    @classmethod
    def from_labels(
        cls, labels: Sequence[str], control: str, separator: str, *, combinations_as_unique: bool = False
    ) -> DosageCode:
        """Collect the perturbations that labels name.

        Parameters
        ----------
        labels
            Distinct labels, such as ``"ctrl"``, ``"A"`` and ``"A+B"``.
        control, separator, combinations_as_unique
            See the class.

        Raises
        ------
        ValueError
            The control is not among the labels, or a label has an empty or repeated part.
        """
        if control not in labels:
            raise ValueError(unknown_name("control", control, "the labels of perturbations", labels))
        code = cls((), control, separator, combinations_as_unique)
        parts = [code.parts(label) for label in labels]
        if combinations_as_unique:
            names = {separator.join(sorted(part)) for part in parts if part}
        else:
            names = {name for part in parts for name in part}
        return cls(tuple(sorted(names)), control, separator, combinations_as_unique)

    def parts(self, label: str) -> tuple[str, ...]:
        """Names in a label, the control left out: ``"A+ctrl"`` is ``A`` alone.

        Parameters
        ----------
        label
            Label of a cell.
        """
        if label == self.control:
            return ()
        parts = [part.strip() for part in label.split(self.separator)] if self.separator else [label]
        if "" in parts:
            msg = (
                f"label {label!r} has an empty part between separators {self.separator!r}; if {self.separator!r} belongs "
                "to a name, pass another separator to setup_anndata."
            )
            raise ValueError(msg)
        parts = [part for part in parts if part != self.control]
        if len(set(parts)) < len(parts):
            msg = f"label {label!r} names a perturbation twice; use dosages to say how much of it was given."
            raise ValueError(msg)
        return tuple(parts)

    def label(self, perturbation: Perturbation) -> str:
        """Label of a perturbation, as labels of combinations are written.

        Parameters
        ----------
        perturbation
            In any form.
        """
        if isinstance(perturbation, Mapping):
            parts = [name if dose == 1 else f"{name}:{dose:g}" for name, dose in perturbation.items() if dose]
        else:
            parts = [perturbation] if isinstance(perturbation, str) else list(perturbation)
        return self.separator.join(parts) or str(self.control)

    def dosage(self, perturbation: Perturbation) -> NDArray[np.float32]:
        """Dosages of a perturbation, of shape ``[n_perturbations]``.

        Parameters
        ----------
        perturbation
            In any form.

        Raises
        ------
        ValueError
            A name was not among the cells the model was registered with, or a dosage is negative or not finite.
        """
        if not isinstance(perturbation, Mapping):
            if isinstance(perturbation, str):
                perturbation = (perturbation,) if perturbation in self.names else self.parts(perturbation)
            names = [name for name in perturbation if name != self.control]
            if len(set(names)) < len(names):
                msg = f"perturbation {list(perturbation)!r} names one twice; pass dosages, such as {{'A': 2.0}}."
                raise ValueError(msg)
            perturbation = dict.fromkeys(names, 1.0)
        if self.combinations_as_unique:
            perturbation = self._as_unique(perturbation)
        row = np.zeros(len(self.names), dtype=np.float32)
        for name, dose in perturbation.items():
            if name not in self.names:
                raise ValueError(self._unknown(name))
            if not np.isfinite(dose) or dose < 0:
                msg = f"dosage of {name!r} is {dose}; it must be finite and not negative."
                raise ValueError(msg)
            row[self.names.index(name)] = dose
        return row

    def matrix(self, labels: pd.Series) -> sparse.csr_matrix:
        """Dosages of cells, of shape ``[n_cells, n_perturbations]``.

        Parameters
        ----------
        labels
            Label of each cell.
        """
        codes, distinct = pd.factorize(labels.astype(str))
        rows = np.zeros((len(distinct), len(self.names)), dtype=np.float32)
        for row, label in zip(rows, distinct, strict=True):
            row[:] = self.dosage(label)
        return sparse.csr_matrix(rows)[codes]

    def _as_unique(self, dosages: Mapping[str, float]) -> Mapping[str, float]:
        """The combination as a perturbation of its own."""
        given = {name: dose for name, dose in dosages.items() if dose != 0}
        if len(given) < 2:
            return given
        if set(given.values()) != {1.0}:
            msg = (
                f"perturbation {dict(dosages)!r}: with combinations_as_unique=True the dosages of a combination are 1."
            )
            raise ValueError(msg)
        return {self.separator.join(sorted(given)): 1.0}

    def _unknown(self, name: str) -> str:
        if self.combinations_as_unique and self.separator in name:
            return (
                f"combination {name!r} was not seen in training, and the model takes combinations as perturbations of "
                "their own; register with combinations_as_unique=False to predict unseen combinations."
            )
        msg = unknown_name("perturbation", name, "the perturbations the model was registered with", self.names)
        if self.separator and self.separator in name:
            msg += f" It holds the separator {self.separator!r}: pass the names of a combination one by one."
        return msg


def read_dosages(adata: AnnData, dosage_key: str) -> tuple[sparse.csr_matrix, list[str]]:
    """Dosages that an AnnData holds, and the names of the perturbations.

    Parameters
    ----------
    adata
        Where to look.
    dosage_key
        Key of ``adata.obsm``: a DataFrame, whose columns are the names, or an array or sparse matrix, whose
        perturbations are named ``"0"``, ``"1"``, ...

    Raises
    ------
    KeyError, ValueError
        There is no such key; a dosage is negative, NaN or infinite; or a name occurs twice.
    """
    if dosage_key not in adata.obsm:
        raise KeyError(unknown_name("dosage_key", dosage_key, "adata.obsm", list(adata.obsm)))
    values = adata.obsm[dosage_key]
    names = [str(name) for name in (values.columns if isinstance(values, pd.DataFrame) else range(values.shape[1]))]
    if len(set(names)) < len(names):
        repeated = pd.Index(names)[pd.Index(names).duplicated()].unique().tolist()
        msg = f"dosage_key: columns of adata.obsm[{dosage_key!r}] are not unique: {listed(repeated)}."
        raise ValueError(msg)
    values = values.to_numpy(dtype=float) if isinstance(values, pd.DataFrame) else values
    matrix = sparse.csr_matrix(values).astype(np.float32)
    for wrong, what in ((~np.isfinite(matrix.data), "NaN or infinite"), (matrix.data < 0, "negative")):
        if wrong.any():
            columns = [names[j] for j in np.unique(matrix.indices[wrong])]
            msg = (
                f"dosage_key: adata.obsm[{dosage_key!r}] holds {int(wrong.sum())} {what} dosages, of {listed(columns)}; "
                "dosages must be finite and not negative."
            )
            raise ValueError(msg)
    matrix.eliminate_zeros()
    return matrix, names


def find_dosages(
    adata: AnnData, code: DosageCode, *, perturbation_key: str | None, dosage_key: str | None
) -> sparse.csr_matrix:
    """Dosages of cells in the order of the perturbations of a code, of shape ``[n_cells, n_perturbations]``.

    Parameters
    ----------
    adata
        Where to look.
    code
        The perturbations.
    perturbation_key
        Column of ``adata.obs`` with labels, or ``None``.
    dosage_key
        Key of ``adata.obsm`` with dosages, by name or in the order of the code. Used without ``perturbation_key``.

    Raises
    ------
    KeyError, ValueError
        Labels or dosages are missing, wrong, or of perturbations the code does not have.
    """
    if perturbation_key is not None:
        check_obs_column(adata, "perturbation_key", perturbation_key)
        return code.matrix(adata.obs[perturbation_key])
    matrix, names = read_dosages(adata, dosage_key)
    given = [name for name, n in zip(names, matrix.getnnz(axis=0), strict=True) if n]
    for name in [*given, *(name for name in code.names if name not in names)]:
        if name not in code.names or name not in names:
            place = "the perturbations the model was registered with"
            raise ValueError(unknown_name(f"column of adata.obsm[{dosage_key!r}]", name, place, code.names))
    return sparse.csr_matrix(matrix[:, [names.index(name) for name in code.names]])


def warn_of_rare_perturbations(n_cells: Mapping[str, int]) -> None:
    """Warn of perturbations that few cells received.

    Parameters
    ----------
    n_cells
        Number of cells by name.
    """
    rare = [f"{name} ({n})" for name, n in n_cells.items() if n < MIN_CELLS_PER_PERTURBATION]
    if rare:
        msg = (
            f"perturbations with fewer than {MIN_CELLS_PER_PERTURBATION} cells, whose effects the data say little "
            f"about: {listed(rare)}."
        )
        warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)


def warn_of_inseparable_perturbations(dosages: sparse.csr_matrix, names: Sequence[str]) -> None:
    """Warn of perturbations that were only given together, in the same dosages.

    Parameters
    ----------
    dosages
        Dosages of shape ``[n_cells, n_perturbations]``.
    names
        Names of the perturbations.
    """
    columns = sparse.csc_matrix(dosages)
    by_cells: dict[bytes, list[str]] = {}
    for j, name in enumerate(names):
        start, end = columns.indptr[j : j + 2]
        if start < end:
            key = columns.indices[start:end].tobytes() + columns.data[start:end].tobytes()
            by_cells.setdefault(key, []).append(name)
    for together in by_cells.values():
        if len(together) > 1:
            msg = (
                f"perturbations {listed(together)} were only given together, so their effects cannot be told apart; if "
                "they are one name that holds the separator, pass another separator."
            )
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
