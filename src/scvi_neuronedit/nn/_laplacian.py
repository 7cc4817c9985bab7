"""Graph Laplacians and the penalty on activations that differ between neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAPLACIANS = ("unnormalized", "symmetric", "random_walk")
NORMALIZATIONS = ("none", "rayleigh", "variance")
_WIDE = 256
_EPS = 1e-12


def laplacian(
    adjacency: NDArray | sparse.sparray, kind: Literal["unnormalized", "symmetric", "random_walk"] = "unnormalized"
) -> sparse.csr_array:
    r"""Laplacian of a graph with adjacency A and degrees D.

    :math:`D - A`, :math:`I - D^{-1/2} A D^{-1/2}` or :math:`I - D^{-1} A`. Rows of neurons without neighbours are 0.

    Parameters
    ----------
    adjacency
        Symmetric adjacency of shape ``[n_neurons, n_neurons]`` with a zero diagonal.
    kind
        Which of the three.
    """
    if kind not in LAPLACIANS:
        msg = f"laplacian={kind!r} is not one of {', '.join(LAPLACIANS)}."
        raise ValueError(msg)
    adjacency = sparse.csr_array(adjacency, dtype=np.float64)
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    plain = sparse.diags_array(degree) - adjacency
    if kind == "unnormalized":
        return sparse.csr_array(plain)
    inverse = np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)
    if kind == "random_walk":
        return sparse.csr_array(sparse.diags_array(inverse) @ plain)
    root = sparse.diags_array(np.sqrt(inverse))
    return sparse.csr_array(root @ plain @ root)


class GraphPenalty(nn.Module):
    r"""Penalty on activations that differ between neighbours of a graph (Tong et al., IDA 2020, arXiv 1810.00424).

    With the activations z of a cell, averaged over the cells of a minibatch:

    - ``normalize="none"``: :math:`z^\top L z`, for the unnormalised Laplacian :math:`\sum_{i<j} A_{ij} (z_i - z_j)^2`. It
      falls when activations shrink.
    - ``"rayleigh"``: :math:`z^\top L z / (z^\top z + 10^{-12})` of each cell, which no scaling changes, but a constant added
      to all neurons lowers.
    - ``"variance"``: :math:`\overline{\tilde z^\top L \tilde z} \,/\, \overline{\tilde z^\top \tilde z}` with
      :math:`\tilde z` centred over the minibatch. Neither scaling nor a constant changes it: it is the share of the
      variance between cells that is rough on the graph.

    Of the random-walk Laplacian, which is not symmetric, the quadratic form sees the symmetric part.

    Parameters
    ----------
    adjacency
        Symmetric adjacency of shape ``[n_neurons, n_neurons]`` with a zero diagonal. Sparse arithmetic is used from 256
        neurons on, where at most a tenth of the pairs are joined.
    kind
        See :func:`laplacian`.
    normalize
        See above.
    balance
        The Laplacian of a connected graph sees nothing in a pattern that all neurons share, so under a large weight they
        all come to do the same. This is how rough the shared pattern is counted: ``balance`` times its squared length is
        added to :math:`z^\top L z`. 0 is the penalty of the paper; 1 is the mean roughness of random activations for the
        normalised Laplacians. Graphs in pieces are not balanced: there a pattern shared by a piece is what is wanted.
    """

    def __init__(
        self,
        adjacency: NDArray | sparse.sparray,
        kind: Literal["unnormalized", "symmetric", "random_walk"] = "unnormalized",
        normalize: Literal["none", "rayleigh", "variance"] = "none",
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        if normalize not in NORMALIZATIONS:
            msg = f"normalize={normalize!r} is not one of {', '.join(NORMALIZATIONS)}."
            raise ValueError(msg)
        self.normalize, self.balance = normalize, balance
        matrix = laplacian(adjacency, kind)
        matrix = ((matrix + matrix.T) / 2).astype(np.float32)
        n_neurons = matrix.shape[0]
        if n_neurons >= _WIDE and matrix.nnz <= 0.1 * n_neurons**2:
            matrix = matrix.tocoo()
            positions = torch.from_numpy(np.stack(matrix.coords).astype(np.int64))
            tensor = torch.sparse_coo_tensor(
                positions, torch.from_numpy(matrix.data), matrix.shape, check_invariants=True
            ).coalesce()
        else:
            tensor = torch.from_numpy(matrix.toarray())
        self.register_buffer("laplacian", tensor, persistent=False)
        self.is_connected = connected_components(adjacency, directed=False)[0] == 1
        if not self.is_connected:
            self.balance = 0.0
        shared = np.ones(n_neurons)
        if kind == "symmetric":  # what this Laplacian maps to 0
            shared = np.sqrt(np.asarray(sparse.csr_array(adjacency).sum(axis=1)).ravel())
        shared = torch.from_numpy((shared / max(np.linalg.norm(shared), _EPS)).astype(np.float32))
        self.register_buffer("shared", shared, persistent=False)

    @property
    def roughness(self) -> NDArray[np.float64]:
        """The matrix of the quadratic form: the Laplacian's symmetric part, and the balance."""
        matrix = self.laplacian.to_dense() if self.laplacian.is_sparse else self.laplacian
        return (matrix + self.balance * torch.outer(self.shared, self.shared)).cpu().double().numpy()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Penalty, a scalar.

        Parameters
        ----------
        z
            Activations of shape ``[..., n_neurons]``.
        """
        z = z.reshape(-1, z.shape[-1])
        if self.normalize == "variance":
            z = z - z.mean(dim=0)
        rough = (z * (self.laplacian.to(z.dtype) @ z.T).T).sum(dim=1)
        if self.balance > 0:
            rough = rough + self.balance * (z @ self.shared.to(z.dtype)).square()
        if self.normalize == "none":
            return rough.mean()
        size = z.square().sum(dim=1)
        if self.normalize == "rayleigh":
            return (rough / (size + _EPS)).mean()
        return rough.mean() / (size.mean() + _EPS)
