"""The neurons of an autoencoder on their graph: how they are read, and which of them an edit moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from scvi_neuronedit.model._neuron_graph import NeuronGraphMixin, evenly_spread
from scvi_neuronedit.nn import mean_jacobian

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from scvi_neuronedit.data import Selection
    from scvi_neuronedit.edit import Edit

_MOVED = 0.1


class NeuronShiftsMixin(NeuronGraphMixin):
    """Methods that read the structured neurons of an autoencoder, and edits of them."""

    _default_layer = "code"

    def get_neuron_shifts(
        self,
        edit: Edit,
        adata: AnnData | None = None,
        query: Selection | None = None,
        layer: str | None = None,
        *,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Which neurons an edit moves in the query cells, and by how much.

        Parameters
        ----------
        edit
            Learnt by this model.
        adata
            AnnData that holds the query. The model's own if ``None``.
        query
            Cells to edit; see :meth:`apply_edit`.
        layer
            Layer to look at; edits of the layers before it count. See :meth:`get_neuron_graph`.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.

        Returns
        -------
        A row for each neuron: mean activation ``before`` and ``after``, ``shift`` (their difference), ``shift_sd`` (the shift
        in standard deviations of the neuron over all cells of ``adata``) and ``share_moved`` (share of the query cells
        in which it moves by more than a tenth of that).
        """
        adata, layer = self._checked_adata(adata), self._one_layer(layer)
        self._check_edit(edit)
        rows = np.flatnonzero(self._query(adata, edit, query))
        sd = self._activations(adata, np.arange(adata.n_obs), layer, batch_size=batch_size).std(axis=0)
        before, after = (self._activations(adata, rows, layer, e, batch_size=batch_size) for e in (None, edit))
        shift = (after - before).mean(axis=0)
        return pd.DataFrame(
            {
                "before": before.mean(axis=0),
                "after": after.mean(axis=0),
                "shift": shift,
                "shift_sd": np.divide(shift, sd, out=np.zeros_like(shift), where=sd > 0),
                "share_moved": (np.abs(after - before) > _MOVED * sd).mean(axis=0),
            }
        ).rename_axis("neuron")

    # ---- what NeuronGraphMixin asks for -----------------------------------------------------------------------------

    def _inputs_and_activations(
        self, adata: AnnData, layer: str, batch_size: int | None
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        for _, _, x, size_factor in self._minibatches(adata, np.arange(adata.n_obs), batch_size, silent=True):
            library = self.module.library_size(x, size_factor)
            z = self.module.activations(x, size_factor, layer)
            yield self.module.network_input(x, library).cpu().numpy(), z.cpu().numpy()

    def _jacobian(self, adata: AnnData, layer: str) -> NDArray[np.float64]:
        """Of the decoder, over cells spread evenly."""
        rows = evenly_spread(adata.n_obs)
        name, _, number = layer.partition("/")
        network = self.module.networks[int(number or 1) - 1].eval()
        z = torch.from_numpy(self._activations(adata, rows, layer)).to(self.device)
        with torch.no_grad():
            return mean_jacobian(lambda z: network(z, after=name), z).cpu().numpy().astype(np.float64)
