"""Activation maps whose shift depends on where in the source population a cell lies."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from scvi_neuronedit.edit._composition import composition_weights
from scvi_neuronedit.edit._maps import ActivationMap, GaussianMap, PercentileMap, gaussian_transport, mean_shift

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray


_N_COMPONENTS = 50


@dataclass(eq=False)
class CarriedMap(ActivationMap):
    """Give each cell the mean shift of its nearest source cells.

    The neighbours are the source cells closest in all activations of the layer together (in their 50 leading principal
    components, where a layer has more neurons), so a neuron's shift depends on the whole state of the cell. Subclasses
    say what the shift of a source cell is.

    Parameters
    ----------
    n_neighbors
        Number of source cells each cell is compared with; all of them if there are fewer.
    max_reference
        From populations larger than this, a random sample of this many cells serves as neighbours. What the shifts are
        learnt from always holds every cell.
    random_state
        Seed of that sample.
    """

    # what the inverse swaps between source and target
    _of_sides: ClassVar[tuple[str, ...]] = ("_", "_shifts_", "_shift_index_")
    n_neighbors: int = 50
    max_reference: int = 5_000
    random_state: int = 0

    def __post_init__(self) -> None:
        for parameter in ("n_neighbors", "max_reference"):
            if getattr(self, parameter) < 1:
                msg = f"{parameter}={getattr(self, parameter)}; it must be at least 1."
                raise ValueError(msg)

    @abstractmethod
    def _shifts(
        self,
        source: NDArray,
        target: NDArray,
        source_weights: NDArray | None,
        target_weights: NDArray | None,
        groups: tuple[NDArray, NDArray] | None,
    ) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
        """Shifts towards the other population, and which of them each cell has: of the source, and of the target."""

    def fit(self, source, target, source_weights=None, target_weights=None, groups=None) -> Self:
        """Find the shift of every source (and target) cell; see :meth:`ActivationMap.fit`."""
        of_source, of_target = self._shifts(source, target, source_weights, target_weights, groups)
        rng = np.random.default_rng(self.random_state)
        rows = _sample(len(source), self.max_reference, rng), _sample(len(target), self.max_reference, rng)
        self.components_ = _principal_axes(np.concatenate([source[rows[0]], target[rows[1]]]), self.random_state)
        self.source_, self.source_shifts_, self.source_shift_index_ = self._reference(source, rows[0], *of_source)
        self.target_, self.target_shifts_, self.target_shift_index_ = self._reference(target, rows[1], *of_target)
        return self

    def _reference(self, cells: NDArray, rows: NDArray, shifts: NDArray, index: NDArray) -> tuple[NDArray, ...]:
        used, index = np.unique(index[rows], return_inverse=True)
        return self._coordinates(cells[rows]), shifts[used].astype(cells.dtype), index

    def _coordinates(self, cells: NDArray) -> NDArray:
        return cells @ self.components_ if self.components_.size else cells

    @cached_property
    def neighbors(self) -> NearestNeighbors:
        """Index of the source cells."""
        return NearestNeighbors(n_neighbors=min(self.n_neighbors, len(self.source_))).fit(self.source_)

    def __call__(self, activations: NDArray) -> NDArray:
        """Shift each cell by the mean shift of its neighbours among the source cells."""
        n_source = len(self.source_)
        has_shift = sparse.csr_matrix((np.ones(n_source), self.source_shift_index_, np.arange(n_source + 1)))
        is_neighbor = self.neighbors.kneighbors_graph(self._coordinates(activations))
        shift = (is_neighbor @ has_shift) @ self.source_shifts_ / self.neighbors.n_neighbors
        return activations + shift.astype(activations.dtype)

    def inverse(self) -> Self:
        """The map learnt in the other direction: mean shift of the nearest target cells. Not an exact inverse."""
        state = self.get_state()
        for name in self._of_sides:
            state[f"source{name}"], state[f"target{name}"] = state[f"target{name}"], state[f"source{name}"]
        return self._with_state(**state)


def _sample(n_cells: int, n_wanted: int, rng: np.random.Generator) -> NDArray[np.intp]:
    if n_cells <= n_wanted:
        return np.arange(n_cells)
    return np.sort(rng.choice(n_cells, n_wanted, replace=False))


def _principal_axes(cells: NDArray, random_state: int) -> NDArray:
    """Leading principal axes as columns; nothing where there are no more neurons than axes wanted."""
    n_components = min(_N_COMPONENTS, len(cells))
    if cells.shape[1] <= n_components:
        return np.empty((0, 0), dtype=cells.dtype)
    return (
        PCA(n_components, svd_solver="randomized", random_state=random_state)
        .fit(cells)
        .components_.T.astype(cells.dtype)
    )


@dataclass(eq=False)
class NeighborMap(CarriedMap):
    """Give each cell the mean *percentile* shift of its nearest source cells (Amodio et al., MLSP 2020).

    The shift of a source cell is the linear one of :class:`PercentileMap`.

    Parameters
    ----------
    n_neighbors, max_reference, random_state
        See :class:`CarriedMap`.
    n_quantiles
        Number of quantiles in each table.
    """

    name: ClassVar[str] = "neighbor"
    n_quantiles: int = 101

    def _shifts(self, source, target, source_weights, target_weights, groups):
        percentile = PercentileMap(self.n_quantiles).fit(source, target, source_weights, target_weights)
        source_shifts, target_shifts = percentile(source) - source, percentile.inverse()(target) - target
        return (source_shifts, np.arange(len(source))), (target_shifts, np.arange(len(target)))


@dataclass(eq=False)
class GroupMap(CarriedMap):
    """Give each cell the mean shift of its nearest source cells, each shifting as its own group does.

    The shift of a group, a cell type, is the difference of its mean activations in target and source. A cell between
    groups gets a mixture of their shifts; one of a group never seen in the target, those of the most similar groups.

    Parameters
    ----------
    n_neighbors, max_reference, random_state
        See :class:`CarriedMap`.
    n_groups
        Number of groups to find by k-means, in source and back-shifted target together, where none are given.
    min_cells
        Groups with fewer cells than this in source or target take the difference of the population means.
    """

    name: ClassVar[str] = "group"
    n_groups: int = 10
    min_cells: int = 10

    def _shifts(self, source, target, source_weights, target_weights, groups):
        source_groups, target_groups = groups or find_groups(source, target, self.n_groups, self.random_state)
        shifts = [mean_shift(source, target, source_weights, target_weights)]
        index = np.zeros(len(source), dtype=np.intp), np.zeros(len(target), dtype=np.intp)
        for group in np.intersect1d(source_groups, target_groups):
            in_source, in_target = source_groups == group, target_groups == group
            if min(in_source.sum(), in_target.sum()) >= self.min_cells:
                index[0][in_source] = index[1][in_target] = len(shifts)
                shifts.append(target[in_target].mean(axis=0) - source[in_source].mean(axis=0))
        shifts = np.stack(shifts)
        return (shifts, index[0]), (-shifts, index[1])


@dataclass(eq=False)
class GroupGaussianMap(GroupMap):
    r"""The group map, and within groups the affine optimal transport that makes cells vary as target cells do.

    :math:`a' = a + s(a) + (A - I)(a - c(a))`, where :math:`s(a)` is the shift of :class:`GroupMap`, :math:`c(a)` the mean of the
    group the cell belongs to (over its nearest source cells, the mean of their groups' means), and :math:`A` the transport
    of :class:`GaussianMap` between the covariances within groups, pooled over groups. So cells of one group may respond
    differently, in the way in which they differ already. No cell is displaced by more than the mean shift and what
    99 % of the source cells are displaced within their groups.

    Parameters
    ----------
    n_neighbors, max_reference, random_state, n_groups, min_cells
        See :class:`GroupMap`.
    regularization
        See :class:`GaussianMap`. If 0, cells lose what they deviate from their group in directions in which no source cell does.
    """

    name: ClassVar[str] = "group_gaussian"
    uses_unpaired: ClassVar[bool] = True
    _of_sides: ClassVar[tuple[str, ...]] = (*GroupMap._of_sides, "_members_", "_means_", "_limit_")
    regularization: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        GaussianMap.__post_init__(self)

    def fit(self, source, target, source_weights=None, target_weights=None, groups=None, unpaired=None) -> Self:
        """Find the shifts of the groups, their means, and the transport within them; see :meth:`ActivationMap.fit`.

        Parameters
        ----------
        source, target, source_weights, target_weights, groups
            See :meth:`ActivationMap.fit`.
        unpaired
            Activations and groups of source cells whose group the target lacks; only the means of these groups are used.
        """
        groups = groups or find_groups(source, target, self.n_groups, self.random_state)
        super().fit(source, target, source_weights, target_weights, groups)
        source, target = self._coordinates(source), self._coordinates(target)
        sides = [_group_means(*side, self.min_cells) for side in ((source, groups[0]), (target, groups[1]))]
        shared = np.intersect1d(sides[0][2], sides[1][2])
        if not len(shared):  # no group is large enough: all cells are one
            sides = [_group_means(cells, np.zeros(len(cells)), 0) for cells in (source, target)]
            shared = [0]
        both = [np.isin(group, shared) for _, _, group in sides]
        within = [(cells - means)[rows].astype(np.float64) for (cells, means, _), rows in zip(sides, both, strict=True)]
        # every group weighs as much in the source as in the target, lest a change of composition looks like one of variance
        kept = [group[rows] for (_, _, group), rows in zip(sides, both, strict=True)]
        covariances = map(_covariance_within, within, kept, composition_weights(*kept))
        self.matrix_ = gaussian_transport(*covariances, self.regularization)
        self.source_limit_ = _farthest(within[0], self.matrix_)
        self.target_limit_ = _farthest(within[1], np.linalg.pinv(self.matrix_))
        if unpaired is not None:
            own = _group_means(self._coordinates(unpaired[0]), unpaired[1], self.min_cells)
            sides[0] = [np.concatenate(pair) for pair in zip(sides[0], own, strict=True)]
        for name, (cells, means, _) in zip(("source", "target"), sides, strict=True):
            rows = _sample(len(cells), self.max_reference, np.random.default_rng(self.random_state))
            vars(self).update({f"{name}_members_": cells[rows], f"{name}_means_": means[rows]})
        return self

    @cached_property
    def members(self) -> NearestNeighbors:
        """Index of the source cells whose groups' means are known."""
        return NearestNeighbors(n_neighbors=min(self.n_neighbors, len(self.source_members_))).fit(self.source_members_)

    def __call__(self, activations: NDArray) -> NDArray:
        """Shift each cell as its neighbours' groups shift, and move it within its group."""
        cells = self._coordinates(activations)
        mean = self.members.kneighbors_graph(cells) @ self.source_means_ / self.members.n_neighbors
        displacement = (cells - mean) @ (self.matrix_ - np.eye(len(self.matrix_)))
        length = np.linalg.norm(displacement, axis=1, keepdims=True)
        displacement *= np.minimum(1, self.source_limit_ / np.maximum(length, np.finfo(length.dtype).tiny))
        if self.components_.size:
            displacement = displacement @ self.components_.T
        return super().__call__(activations) + displacement.astype(activations.dtype)

    def inverse(self) -> GroupGaussianMap:
        """The map learnt in the other direction. Not an exact inverse."""
        inverse = super().inverse()
        inverse.matrix_ = np.linalg.pinv(self.matrix_)
        return inverse


def _covariance_within(within: NDArray, groups: NDArray, weights: NDArray) -> NDArray:
    """Weighted covariance of cells given within their groups, whose means cost a degree of freedom each."""
    _, index, n_cells = np.unique(groups, return_inverse=True, return_counts=True)
    inflated = weights * (n_cells / np.maximum(n_cells - 1, 1))[index]
    return np.atleast_2d((within.T * inflated) @ within) / weights.sum()


def _farthest(within: NDArray, matrix: NDArray) -> np.float64:
    """What 99 % of cells, given within their groups, are displaced at most by a transport."""
    return np.quantile(np.linalg.norm(within @ (matrix - np.eye(len(matrix))), axis=1), 0.99)


def _group_means(cells: NDArray, groups: NDArray, min_cells: int) -> tuple[NDArray, NDArray, NDArray]:
    """Cells of the groups that are large enough, the mean of each one's group, and the group."""
    names, index, n_cells = np.unique(groups, return_inverse=True, return_counts=True)
    sums = sparse.csr_matrix((np.ones(len(cells)), (index, np.arange(len(cells)))), (len(names), len(cells))) @ cells
    kept = n_cells[index] >= min_cells
    return cells[kept], (sums / n_cells[:, None])[index[kept]].astype(cells.dtype), groups[kept]


def find_groups(
    source: NDArray, target: NDArray, n_groups: int, random_state: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Groups of similar cells, by k-means on the source and the target moved onto the source's mean.

    Parameters
    ----------
    source, target
        Activations of shapes ``[n_source, n_neurons]`` and ``[n_target, n_neurons]``.
    n_groups
        Number of groups.
    random_state
        Seed.

    Returns
    -------
    Group of every source and of every target cell.
    """
    aligned = np.concatenate([source, target - (target.mean(axis=0) - source.mean(axis=0))])
    labels = KMeans(min(n_groups, len(aligned)), n_init=3, random_state=random_state).fit_predict(aligned)
    return labels[: len(source)], labels[len(source) :]


@dataclass(eq=False)
class PairsMap(ActivationMap):
    r"""Shift each cell from the source cells around it to the target cells that are their likely counterparts.

    With :math:`g` the difference of the population means, the shift of a cell with activations :math:`a` is the mean of
    the :math:`K` target cells nearest to :math:`a + g` minus the mean of the :math:`K` source cells nearest to :math:`a`.

    Parameters
    ----------
    n_neighbors
        :math:`K`; all cells of a population if it has fewer.
    max_reference, random_state
        See :class:`CarriedMap`.
    """

    name: ClassVar[str] = "pairs"
    n_neighbors: int = 50
    max_reference: int = 5_000
    random_state: int = 0

    __post_init__ = CarriedMap.__post_init__

    def fit(self, source, target, source_weights=None, target_weights=None, groups=None) -> Self:
        """Keep (a sample of) both populations; see :meth:`ActivationMap.fit`."""
        self.shift_ = mean_shift(source, target, source_weights, target_weights)
        rng = np.random.default_rng(self.random_state)
        self.source_ = source[_sample(len(source), self.max_reference, rng)]
        self.target_ = target[_sample(len(target), self.max_reference, rng)]
        return self

    @cached_property
    def neighbors(self) -> tuple[NearestNeighbors, NearestNeighbors]:
        """Indices of the source and the target cells."""
        return tuple(
            NearestNeighbors(n_neighbors=min(self.n_neighbors, len(cells))).fit(cells)
            for cells in (self.source_, self.target_)
        )

    def __call__(self, activations: NDArray) -> NDArray:
        """Shift each cell by the difference of the two neighbourhood means."""
        shifted = (activations + self.shift_).astype(activations.dtype)
        means = [
            index.kneighbors_graph(queries) @ cells / index.n_neighbors
            for index, queries, cells in zip(
                self.neighbors, (activations, shifted), (self.source_, self.target_), strict=True
            )
        ]
        return activations + (means[1] - means[0]).astype(activations.dtype)

    def inverse(self) -> PairsMap:
        """The map learnt in the other direction. Not an exact inverse."""
        return self._with_state(shift_=-self.shift_, source_=self.target_, target_=self.source_)
