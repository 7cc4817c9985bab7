"""Structured neurons: the part of the model classes that regularises a layer on a graph, and reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scvi_neuronedit.data import CrossCovariance
from scvi_neuronedit.nn import NeuronGraph, coactivation_graph, graph_layout, graph_modules
from scvi_neuronedit.train import GraphRegularization

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

_N_CELLS_JACOBIAN = 500


class NeuronGraphMixin:
    """Methods that train a layer to be smooth on a graph, and read the graph and its gene programs.

    The model class says how its layers are read: ``_activations``, ``_inputs_and_activations`` and ``_jacobian``.
    """

    def get_neuron_graph(
        self,
        adata: AnnData | None = None,
        layer: str | None = None,
        *,
        resolution: float = 1.0,
        key_added: str | None = None,
        batch_size: int | None = None,
    ) -> NeuronGraph:
        """The graph of a layer's neurons, with positions to draw them at and their modules.

        The graph is the one the layer was trained with. Of a layer trained without one, it is learnt now from
        co-activation, which costs nothing but gives the neurons no order of their own.

        Parameters
        ----------
        adata
            AnnData whose cells say which neurons fire together, with the model's features. The model's own if ``None``.
        layer
            Name of the layer. If ``None``: the one trained with a graph, else the code, or of models of perturbations
            the last hidden layer of the decoder. Of several networks one has to be named (``"code/2"``), or the first is taken.
        resolution
            Above 1 for more and smaller modules; see :func:`~scvi_neuronedit.nn.graph_modules`.
        key_added
            Write the activations into ``adata.obsm[f"X_{key_added}"]`` (float32, ``[n_cells, n_neurons]``) and graph,
            layout and modules into ``adata.uns[key_added]``.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        """
        adata, layer = self._checked_adata(adata), self._one_layer(layer)
        activations = self._activations(adata, np.arange(adata.n_obs), layer, batch_size=batch_size)
        trained = self.neuron_graph_ or {"adjacency": {}, "history": []}
        if layer in trained["adjacency"]:
            name, adjacency = trained["graph"], sparse.csr_array(trained["adjacency"][layer])
        else:
            name, adjacency = "learned afterwards", coactivation_graph(activations)
        history = pd.DataFrame([record for record in trained["history"] if record["layer"] == layer])
        shape = self.graph_regularization_["shape"] if self.graph_regularization_ is not None else None
        layout = graph_layout(adjacency, name, shape=shape)
        modules = graph_modules(adjacency, activations, resolution=resolution)
        graph = NeuronGraph(layer, name, adjacency, layout, modules, history)
        if key_added is not None:
            adata.obsm[f"X_{key_added}"] = activations
            adata.uns[key_added] = {
                "layer": layer,
                "graph": name,
                "adjacency": sparse.csr_matrix(adjacency),
                "layout": layout,
                "modules": modules,
                "model": self.fingerprint,
            }
        return graph

    def get_neuron_modules(
        self,
        adata: AnnData | None = None,
        layer: str | None = None,
        *,
        resolution: float = 1.0,
        n_genes: int | None = None,
        key_added: str | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Genes of every neuron and of every module, ranked.

        A module's activity is the mean of its neurons' activations, each divided by its standard deviation.

        Parameters
        ----------
        adata
            AnnData with the model's features, in any order; need not be registered. The model's own if ``None``.
        layer, resolution, batch_size
            See :meth:`get_neuron_graph`.
        n_genes
            Number of genes for each neuron and module; all if ``None``.
        key_added
            Write, for genes in the order of ``adata``, ``adata.varm[f"{key_added}_correlation"]`` and
            ``adata.varm[f"{key_added}_jacobian"]`` of shape ``[n_vars, n_neurons]``, and the same for modules as
            ``adata.varm[f"{key_added}_module_correlation"]`` and ``..._module_jacobian``. Genes the model lacks are NaN.

        Returns
        -------
        A row for each gene of each program, best first:

        ``level``, ``number``
            ``"neuron"`` or ``"module"``, and which.
        ``gene``, ``rank``
            Genes by falling correlation; rank 1 is the first.
        ``correlation``
            Pearson correlation of the gene with the activity over cells, on the scale the network reads.
        ``jacobian``
            Mean change of the decoded output (for counts: of its logarithm, before the softmax) for a rise of the activity by one
            standard deviation of the neuron, of all neurons of a module together; a derivative averaged over cells.
        """
        adata = self._checked_adata(adata)
        graph = self.get_neuron_graph(adata, layer, resolution=resolution, batch_size=batch_size)
        covariance = CrossCovariance.of(self._inputs_and_activations(adata, graph.layer, batch_size))
        sd = np.sqrt(np.diag(covariance.zz))
        members = (graph.modules[:, None] == np.arange(graph.n_modules)).astype(float)
        weights = members * np.divide(1, sd, out=np.zeros_like(sd), where=sd > 0)[:, None] / members.sum(axis=0)
        jacobian = self._jacobian(adata, graph.layer) * sd
        programs = {
            "neuron": (covariance.correlation(), jacobian),
            "module": (covariance.correlation(weights), jacobian @ members),
        }
        if key_added is not None:
            positions = pd.Index(self.var_names_).get_indexer(adata.var_names.astype(str))
            for level, values in programs.items():
                for kind, matrix in zip(("correlation", "jacobian"), values, strict=True):
                    key = f"{key_added}_{kind}" if level == "neuron" else f"{key_added}_{level}_{kind}"
                    adata.varm[key] = np.where(positions[:, None] >= 0, matrix[positions], np.nan)
        tables = [
            _ranked(level, number, self.var_names_, correlation[:, number], jacobian[:, number], n_genes)
            for level, (correlation, jacobian) in programs.items()
            for number in range(correlation.shape[1])
        ]
        return pd.concat(tables, ignore_index=True)

    # ---- hooks of the model class ---------------------------------------------------------------------------------

    def _use_neuron_graph(
        self,
        graph: str | ArrayLike | sparse.sparray | None,
        weight: float | None,
        layer: str,
        params: Mapping[str, Any] | None,
    ) -> None:
        """Check the graph against the layer before anything is trained."""
        self.graph_regularization_, self.neuron_graph_ = None, None
        if graph is None:
            if weight is not None or params:
                msg = "graph_weight and graph_params have no effect without neuron_graph."
                raise ValueError(msg)
            return
        arguments = {"graph": graph, "weight": weight, "layer": layer, "shape": None, **(params or {})}
        callback = GraphRegularization(**arguments)
        for name in self.module.find_layers(layer):
            if not callback.is_learned:
                callback.build(self.module.n_neurons[name.partition("/")[0]])
        self.graph_regularization_ = arguments

    def train(self, **kwargs) -> None:
        """Train as the class does, with the penalty where there is a graph, and keep the graph."""
        if self.graph_regularization_ is None:
            super().train(**kwargs)
            return
        callback = GraphRegularization(**self.graph_regularization_)
        super().train(**kwargs | {"callbacks": [*(kwargs.get("callbacks") or []), callback]})
        self.neuron_graph_ = {
            "graph": callback.name,
            "adjacency": callback.adjacency_,
            "history": callback.history_,
        }

    # ----------------------------------------------------------------------------------------------------------------

    def _one_layer(self, layer: str | None) -> str:
        if layer is None:
            layer = self._default_layer if self.graph_regularization_ is None else self.graph_regularization_["layer"]
        return next(iter(self.module.find_layers(layer)))

    def _inputs_and_activations(
        self, adata: AnnData, layer: str, batch_size: int | None
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """What the network reads, and the activations of the layer, minibatch by minibatch."""
        raise NotImplementedError

    def _jacobian(self, adata: AnnData, layer: str) -> NDArray[np.float64]:
        """Mean Jacobian of the decoded output over cells, of shape ``[n_features, n_neurons]``."""
        raise NotImplementedError


def evenly_spread(n_cells: int) -> NDArray[np.intp]:
    """Positions of the cells over which Jacobians are averaged, at most 500.

    Parameters
    ----------
    n_cells
        Number of cells.
    """
    return np.unique(np.linspace(0, n_cells - 1, _N_CELLS_JACOBIAN).astype(np.intp))


def _ranked(
    level: str, number: int, genes: NDArray, correlation: NDArray, jacobian: NDArray, n_genes: int | None
) -> pd.DataFrame:
    order = np.argsort(-correlation, kind="stable")[:n_genes]
    return pd.DataFrame(
        {
            "level": level,
            "number": number,
            "gene": genes[order],
            "rank": np.arange(1, len(order) + 1),
            "correlation": correlation[order],
            "jacobian": jacobian[order],
        }
    )
