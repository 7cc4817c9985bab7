"""The neurons of the decoder of a model of perturbations: read, and structured on a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scvi_neuronedit.model._neuron_graph import NeuronGraphMixin, evenly_spread
from scvi_neuronedit.model._rows import rows_of
from scvi_neuronedit.nn import mean_jacobian

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray
    from scipy import sparse


class PerturbationNeuronsMixin(NeuronGraphMixin):
    """Methods that read the hidden layers of the decoder."""

    @property
    def _default_layer(self) -> str:
        """The last hidden layer of the decoder."""
        return list(self.module.n_neurons)[-1]

    def get_activations(
        self,
        adata: AnnData | None = None,
        layer: str | None = None,
        *,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Activations of a hidden layer of the decoder, at the mean of the latent variables of each cell.

        Parameters
        ----------
        adata
            AnnData with the model's features, in any order, and the registered labels or dosages; need not be registered
            itself. The model's own if ``None``.
        layer
            ``"decoder_1"``, ``"decoder_2"``, ... The one trained with a graph, or the last, if ``None``.
        indices
            Positions of the cells, in the order wanted. All if ``None``.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.

        Returns
        -------
        Array of shape ``[n_cells, n_neurons]``.
        """
        adata, layer = self._checked_adata(adata), self._one_layer(layer)
        return self._activations(adata, rows_of(adata, indices), layer, batch_size=batch_size)

    def _use_neuron_graph(
        self,
        graph: str | ArrayLike | sparse.sparray | None,
        weight: float | None,
        layer: str | None,
        params: Mapping[str, Any] | None,
    ) -> None:
        if graph is not None and weight is None and self.module.likelihood == "normal":
            msg = (
                "graph_weight must be given with likelihood='normal': the default is a share of the reconstruction loss, and "
                "that of a normal distribution with variances of its own can be negative."
            )
            raise ValueError(msg)
        super()._use_neuron_graph(graph, weight, layer or self._default_layer, params)

    # ---- what NeuronGraphMixin asks for -----------------------------------------------------------------------------

    def _activations(
        self, adata: AnnData, rows: NDArray[np.intp], layer: str, *, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        parts = [z for _, z in self._inputs_and_activations(adata, layer, batch_size, rows)]
        return np.concatenate([np.empty((0, self.module.n_neurons[layer]), dtype=np.float32), *parts])

    def _inputs_and_activations(
        self, adata: AnnData, layer: str, batch_size: int | None, rows: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        rows = np.arange(adata.n_obs) if rows is None else rows
        for x, dosage, batch, basal, shift in self._encoded_minibatches(adata, rows, batch_size):
            with torch.no_grad():
                z = self.module.decode(basal + shift, dosage, batch, until=layer)
            yield self.module.network_input(x).cpu().numpy(), z.reshape(len(x), -1).cpu().numpy()

    def _jacobian(self, adata: AnnData, layer: str) -> NDArray[np.float64]:
        z = torch.from_numpy(self._activations(adata, evenly_spread(adata.n_obs), layer)).to(self.module.device)
        with torch.no_grad():
            return mean_jacobian(lambda z: self.module.decode_activations(z, layer), z).cpu().numpy().astype(np.float64)
