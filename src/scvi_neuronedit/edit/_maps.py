"""Activation maps: what is learnt between the activations of a source and a target population.

A new map is one class: name it, and write ``fit``, ``__call__`` and ``inverse``. Its parameters are dataclass fields;
what it learns are arrays in attributes whose name ends in an underscore. Saving, loading and lookup by name follow.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from scvi_neuronedit.edit._percentiles import LookUp, percentile_table

if TYPE_CHECKING:
    from typing import Any, Self

    from numpy.typing import NDArray


class ActivationMap(ABC):
    """A function from the activations of one layer to edited activations, learnt from two populations."""

    name: ClassVar[str]
    uses_unpaired: ClassVar[bool] = False  # whether fit takes ``unpaired``, cells of groups the target lacks
    _by_name: ClassVar[dict[str, type[ActivationMap]]] = {}

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls):
            cls._by_name[cls.name] = cls

    @abstractmethod
    def fit(
        self,
        source: NDArray,
        target: NDArray,
        source_weights: NDArray | None = None,
        target_weights: NDArray | None = None,
        groups: tuple[NDArray, NDArray] | None = None,
    ) -> Self:
        """Learn the map.

        Parameters
        ----------
        source, target
            Activations of the two populations, of shapes ``[n_source, n_neurons]`` and ``[n_target, n_neurons]``.
        source_weights, target_weights
            Positive weights of the cells, of shapes ``[n_source]`` and ``[n_target]``. All equal if ``None``.
        groups
            Group of every source and of every target cell, such as its cell type, for the maps that make use of it.

        Returns
        -------
        The map itself.
        """

    @abstractmethod
    def __call__(self, activations: NDArray) -> NDArray:
        """Edited activations, of the shape ``[n_cells, n_neurons]`` of ``activations``."""

    @abstractmethod
    def inverse(self) -> ActivationMap:
        """The map from the target population back to the source population."""

    def get_params(self) -> dict[str, Any]:
        """Parameters the map was made with."""
        params = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}

    def get_state(self) -> dict[str, NDArray]:
        """Arrays the map has learnt, by attribute name."""
        return {name: value for name, value in vars(self).items() if name.endswith("_")}

    def _with_state(self, **state: NDArray) -> Self:
        fitted = type(self)(**self.get_params())
        vars(fitted).update(state)
        return fitted


def make_map(method: str | ActivationMap, **params: Any) -> ActivationMap:
    """Make an activation map by name.

    Parameters
    ----------
    method
        ``"percentile"``, ``"neighbor"``, ``"group"``, ``"group_gaussian"``, ``"pairs"``, ``"mean"``, ``"gaussian"``, the name of a map
        defined elsewhere, or a map, of which a new one with the same parameters is made.
    params
        Parameters of the map's class.
    """
    if isinstance(method, ActivationMap):
        if params:
            msg = f"{', '.join(params)} cannot be set on a map that is already made; set it when making the map."
            raise TypeError(msg)
        return type(method)(**method.get_params())
    known = ActivationMap._by_name
    if method not in known:
        msg = f"method={method!r} is not a known activation map; choose from {', '.join(map(repr, known))}."
        raise ValueError(msg)
    allowed = [field.name for field in dataclasses.fields(known[method])]
    if unknown := [name for name in params if name not in allowed]:
        msg = f"method={method!r} has no parameter {unknown[0]!r}; it has {', '.join(allowed) or 'none'}."
        raise TypeError(msg)
    return known[method](**params)


def mean_shift(
    source: NDArray, target: NDArray, source_weights: NDArray | None, target_weights: NDArray | None
) -> NDArray:
    """Difference of the (weighted) means, of shape ``[n_neurons]``."""
    return np.average(target, axis=0, weights=target_weights) - np.average(source, axis=0, weights=source_weights)


@dataclass(eq=False)
class PercentileMap(ActivationMap):
    r"""Shift every neuron by the difference between target and source at the activation's own percentile.

    :math:`a' = a + (p^T_{j,q} - p^S_{j,q})` for an activation :math:`a` of neuron :math:`j` at source percentile
    :math:`q`; beyond the source's range the shift of its end (Amodio et al., 2018, section 3).

    Parameters
    ----------
    n_quantiles
        Number of quantiles in each table.
    interpolation
        ``"step"`` takes the shift of the percentile just below, as in the paper; ``"linear"`` interpolates the shift
        between percentiles.
    """

    name: ClassVar[str] = "percentile"
    n_quantiles: int = 101
    interpolation: Literal["linear", "step"] = "linear"

    def __post_init__(self) -> None:
        if self.interpolation not in ("linear", "step"):
            msg = f"interpolation={self.interpolation!r}; choose 'linear' or 'step'."
            raise ValueError(msg)

    def fit(self, source, target, source_weights=None, target_weights=None, groups=None) -> Self:
        """Read off the percentile tables; see :meth:`ActivationMap.fit`."""
        self.source_quantiles_ = percentile_table(source, self.n_quantiles, source_weights)
        self.target_quantiles_ = percentile_table(target, self.n_quantiles, target_weights)
        return self

    @cached_property
    def shift(self) -> LookUp:
        """The shift of every neuron as a function of its activation."""
        return LookUp(self.source_quantiles_, self.target_quantiles_ - self.source_quantiles_, self.interpolation)

    def __call__(self, activations: NDArray) -> NDArray:
        """Shift each activation by its percentile's difference."""
        return activations + self.shift(activations)

    def inverse(self) -> PercentileMap:
        """The same tables, read from target to source.

        Exact within the range of the tables where the interpolation is linear and no quantiles coincide.
        """
        return self._with_state(source_quantiles_=self.target_quantiles_, target_quantiles_=self.source_quantiles_)


@dataclass(eq=False)
class MeanMap(ActivationMap):
    """Shift every cell by the difference of the mean activations (latent arithmetic, as in scGen)."""

    name: ClassVar[str] = "mean"

    def fit(self, source, target, source_weights=None, target_weights=None, groups=None) -> Self:
        """Take the difference of the (weighted) means; see :meth:`ActivationMap.fit`."""
        self.shift_ = mean_shift(source, target, source_weights, target_weights)
        return self

    def __call__(self, activations: NDArray) -> NDArray:
        """Add the shift."""
        return activations + self.shift_.astype(activations.dtype)

    def inverse(self) -> MeanMap:
        """The opposite shift."""
        return self._with_state(shift_=-self.shift_)


@dataclass(eq=False)
class GaussianMap(ActivationMap):
    r"""Affine optimal transport between the two activation Gaussians.

    :math:`a' = \mu_T + A (a - \mu_S)` with
    :math:`A = \Sigma_S^{-1/2} (\Sigma_S^{1/2} \Sigma_T \Sigma_S^{1/2})^{1/2} \Sigma_S^{-1/2}`
    (Peyré & Cuturi, 2019, remark 2.31).

    Parameters
    ----------
    regularization
        Added to the diagonal of both covariances, as a share of the mean variance of the source's neurons.
    """

    name: ClassVar[str] = "gaussian"
    regularization: float = 1e-3

    def __post_init__(self) -> None:
        if self.regularization < 0:
            msg = f"regularization={self.regularization}; it must not be negative."
            raise ValueError(msg)

    def fit(self, source, target, source_weights=None, target_weights=None, groups=None) -> Self:
        """Fit both Gaussians and the transport between them; see :meth:`ActivationMap.fit`."""
        source, target = source.astype(np.float64), target.astype(np.float64)
        self.source_mean_ = np.average(source, axis=0, weights=source_weights)
        self.target_mean_ = np.average(target, axis=0, weights=target_weights)
        source_covariance = np.atleast_2d(np.cov(source, rowvar=False, aweights=source_weights))
        target_covariance = np.atleast_2d(np.cov(target, rowvar=False, aweights=target_weights))
        self.matrix_ = gaussian_transport(source_covariance, target_covariance, self.regularization)
        return self

    def __call__(self, activations: NDArray) -> NDArray:
        """Apply the affine map."""
        edited = self.target_mean_ + (activations - self.source_mean_) @ self.matrix_.T
        return edited.astype(activations.dtype)

    def inverse(self) -> GaussianMap:
        """The exact inverse, which is the optimal transport from target to source."""
        return self._with_state(
            source_mean_=self.target_mean_, target_mean_=self.source_mean_, matrix_=np.linalg.inv(self.matrix_)
        )


def gaussian_transport(source: NDArray, target: NDArray, regularization: float) -> NDArray:
    """Matrix of the optimal transport between two Gaussians of the same mean.

    Parameters
    ----------
    source, target
        Their covariances, of shape ``[n_neurons, n_neurons]``.
    regularization
        Added to both diagonals, as a share of the mean variance of the source's neurons.
    """
    ridge = np.diag(np.full(len(source), regularization * np.trace(source) / len(source)))
    root, inverse_root = (_matrix_power(source + ridge, power) for power in (0.5, -0.5))
    return inverse_root @ _matrix_power(root @ (target + ridge) @ root, 0.5) @ inverse_root


def _matrix_power(matrix: NDArray, power: float) -> NDArray:
    """Power of a symmetric positive (semi-)definite matrix; directions without variance are left out."""
    values, vectors = np.linalg.eigh(matrix)
    positive = values > values[-1] * len(matrix) * np.finfo(values.dtype).eps
    powers = np.zeros_like(values)
    powers[positive] = values[positive] ** power
    return (vectors * powers) @ vectors.T
