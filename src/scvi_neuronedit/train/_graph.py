"""Graph spectral regularisation while training (Tong et al., IDA 2020, arXiv 1810.00424)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from scipy.sparse.csgraph import connected_components
from scvi import settings

from scvi_neuronedit.data import unknown_name
from scvi_neuronedit.nn import (
    GRAPHS,
    KERNELS,
    LAPLACIANS,
    NORMALIZATIONS,
    GraphPenalty,
    check_adjacency,
    coactivation_graph,
    named_graph,
    readable_axes,
)
from scvi_neuronedit.train._watched_layer import Evaluation, WatchedLayer, find_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch import LightningModule, Trainer
    from numpy.typing import ArrayLike, NDArray
    from scipy import sparse
    from scvi.module.base import LossOutput
    from torch import nn

DEFAULT_SHARE = 0.03
_COLLAPSED = 1e-3


class GraphRegularization(Callback):
    """Penalises activations of a layer that differ between neighbours of a graph of its neurons.

    The penalty, weight times :class:`~scvi_neuronedit.nn.GraphPenalty`, is added to the loss of each minibatch. It works
    with every module trained by :class:`~scvi_neuronedit.train.EpochTrainingPlan`: the layer is watched from outside. The
    columns ``graph_penalty_train`` (without the weight) and ``activation_sd_train`` of the history hold its course.

    After training a warning says if the layer has collapsed: if the reconstruction loss would hardly rise were every
    cell's activations replaced by their mean, or less than half as much as at the end of the warm-up, or if the activations
    vary less than half as much as the noise.

    Parameters
    ----------
    graph
        ``"learned"`` from co-activation (see :func:`~scvi_neuronedit.nn.coactivation_graph`), the name of a graph (see
        :func:`~scvi_neuronedit.nn.named_graph`), or an adjacency of shape ``[n_neurons, n_neurons]``.
    weight
        Weight of the penalty, in units of the loss. If ``None``: 3 % of the reconstruction loss of the minibatch, so
        that, as an unstructured layer has a penalty of about 1, at the optimum the structure cannot cost much more than
        3 %. Must be given with ``normalize="none"``, whose penalty has the units of squared activations.
    layer
        Name of the layer: one of the module's ``find_layers``, or else of its submodules (``module.named_modules()``).
    n_groups, shape
        Of a named graph.
    laplacian, normalize, balance
        See :class:`~scvi_neuronedit.nn.GraphPenalty`.
    noise
        Standard deviation of normal noise that is added to the activations while training, so that shrinking them costs
        reconstruction. If ``None``: 0.5 with ``normalize="none"``, where shrinking lowers the penalty, else 0.
    kernel, n_neighbors, min_correlation
        Of the learned graph. Where it does not fall into components although there are groups of like neurons, raise
        ``min_correlation``.
    n_cells
        Number of cells, fixed before training, whose activations a graph is learnt from.
    warmup
        Number of steps without penalty. If ``None``: half of all steps for a learned graph, which needs activations worth
        learning from, else none.
    rebuild_every
        Number of steps after which a learned graph is learnt anew.
    patience
        A learned graph is frozen, and not learnt again, once so many in a row have had the same components, and more than
        one.
    of_input
        Whether to penalise what the layer reads in place of what it hands on.
    readable
        Whether to choose, after training, the sign of each pattern on a connected graph that is not learned, so that neurons are
        active in few cells; see :func:`~scvi_neuronedit.nn.readable_axes`. Of the code of NeuronEdit only, which is linear.
        What the network computes stays the same, and so does the penalty.
    unmix
        Whether to make the patterns of the components of a graph in pieces independent after training, in the same way.

    Attributes
    ----------
    adjacency_
        Adjacency by layer, one for each network; ``None`` before training.
    history_
        A record each time graphs are built: ``step``, ``layer``, ``n_edges``, ``n_components``, ``changed`` (share of the
        edges of either graph that the other lacks), ``frozen``.
    warmup_
        Number of steps without penalty; ``None`` before training.
    """

    def __init__(
        self,
        graph: str | ArrayLike | sparse.sparray,
        weight: float | None = None,
        layer: str = "code",
        *,
        n_groups: int | None = None,
        shape: tuple[int, int] | None = None,
        laplacian: Literal["unnormalized", "symmetric", "random_walk"] = "symmetric",
        normalize: Literal["none", "rayleigh", "variance"] = "variance",
        balance: float = 1.0,
        noise: float | None = None,
        kernel: Literal["knn", "gaussian", "adaptive"] = "knn",
        n_neighbors: int = 5,
        min_correlation: float = -1.0,
        n_cells: int = 4000,
        warmup: int | None = None,
        rebuild_every: int = 100,
        patience: int = 10,
        of_input: bool = False,
        readable: bool = True,
        unmix: bool = False,
    ) -> None:
        names = {"laplacian": (laplacian, LAPLACIANS), "normalize": (normalize, NORMALIZATIONS)}
        names |= {"kernel": (kernel, KERNELS)}
        if isinstance(graph, str):
            names["graph"] = (graph, ("learned", *GRAPHS))
        for argument, (value, allowed) in names.items():
            if value not in allowed:
                raise ValueError(unknown_name(argument, value, "what it can be", allowed))
        for argument, value in {"weight": weight, "balance": balance, "noise": noise, "warmup": warmup}.items():
            if value is not None and not (value >= 0 and np.isfinite(value)):
                msg = f"{argument}={value}; it must be a number of at least 0."
                raise ValueError(msg)
        if not -1 <= min_correlation < 1:
            msg = f"min_correlation={min_correlation}; it must lie between -1 and 1."
            raise ValueError(msg)
        counts = {"n_neighbors": n_neighbors, "n_cells": n_cells, "rebuild_every": rebuild_every, "patience": patience}
        for argument, value in counts.items():
            if value < 1:
                msg = f"{argument}={value}; it must be at least 1."
                raise ValueError(msg)
        if weight is None and normalize == "none":
            msg = "weight must be given with normalize='none', whose penalty depends on the scale of the activations."
            raise ValueError(msg)
        self.graph, self.weight, self.layer = graph, weight, layer
        self.n_groups, self.shape = n_groups, shape
        self.laplacian, self.normalize, self.balance = laplacian, normalize, balance
        self.noise = (0.5 if normalize == "none" else 0.0) if noise is None else noise
        self.kernel, self.n_neighbors, self.n_cells = kernel, n_neighbors, n_cells
        self.min_correlation = min_correlation
        self.warmup, self.rebuild_every, self.patience = warmup, rebuild_every, patience
        self.of_input, self.readable, self.unmix = of_input, readable, unmix
        self._layers: dict[str, WatchedLayer] = {}
        self.adjacency_: dict[str, sparse.csr_array] | None = None
        self.warmup_: int | None = None
        self.history_: list[dict[str, Any]] = []

    @property
    def is_learned(self) -> bool:
        """Whether the graph is learned."""
        return isinstance(self.graph, str) and self.graph == "learned"

    @property
    def name(self) -> str:
        """``"learned"``, the name of the graph, or ``"adjacency"``."""
        return self.graph if isinstance(self.graph, str) else "adjacency"

    def build(self, n_neurons: int) -> sparse.csr_array:
        """Adjacency of a graph that is not learned, checked against the width of the layer.

        Parameters
        ----------
        n_neurons
            Number of neurons of the layer.
        """
        if isinstance(self.graph, str):
            return named_graph(self.graph, n_neurons, n_groups=self.n_groups, shape=self.shape)
        return check_adjacency(self.graph, n_neurons)

    # ---- hooks of the trainer -------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the layer, take the sample of cells, build a fixed graph."""
        module = pl_module.module
        self.adjacency_, self.history_, self._totals = {}, [], np.zeros(3)
        self._gain_before, self._is_on = None, False
        steps = trainer.estimated_stepping_batches
        n_steps = int(steps) if np.isfinite(steps) else 0
        self.warmup_ = (n_steps // 2 if self.is_learned else 0) if self.warmup is None else self.warmup
        if self.is_learned and n_steps and self.warmup_ >= n_steps:
            msg = f"warmup={self.warmup} leaves none of the {n_steps} training steps for the learned graph."
            raise ValueError(msg)
        self._sample = self._draw_sample(trainer)
        self._layers = {
            name: WatchedLayer(layer, self.noise, self.of_input)
            for name, layer in find_layers(module, self.layer).items()
        }
        try:
            widths = {name: z.shape[1] for name, z in self._activations(module).items()}
            if not self.is_learned:
                for name, width in widths.items():
                    self._use_graph(name, self.build(width), 0)
        except BaseException:
            self._release(pl_module)
            raise
        pl_module.penalties.append(self._penalty)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Mapping[str, torch.Tensor], batch_idx: int
    ) -> None:
        """Learn the graph anew where its time has come."""
        step = trainer.global_step
        self._is_on = step >= self.warmup_
        if step == self.warmup_ > 0:
            self._gain_before = self._gain(pl_module.module)
        if not self.is_learned or not self._is_on or (step - self.warmup_) % self.rebuild_every:
            return
        waiting = [name for name, layer in self._layers.items() if not layer.frozen]
        for name, z in self._activations(pl_module.module).items() if waiting else ():
            if name in waiting:
                graph = coactivation_graph(z, self.kernel, self.n_neighbors, min_correlation=self.min_correlation)
                self._use_graph(name, graph, step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log penalty and size of the activations."""
        n, penalty, sd = self._totals
        pl_module.log_dict({"graph_penalty_train": penalty / max(n, 1), "activation_sd_train": sd / max(n, 1)})
        self._totals = np.zeros(3)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of collapsed activations; make the neurons readable."""
        gain = self._gain(pl_module.module)
        sd = np.mean([z.std(axis=0).mean() for z in self._activations(pl_module.module).values()])
        weight = (
            f"the default weight ({DEFAULT_SHARE:.0%} of the loss)" if self.weight is None else f"weight={self.weight}"
        )
        if gain < _COLLAPSED:
            msg = (
                f"the activations of layer {self.layer!r} have collapsed: the reconstruction hardly depends on them any "
                f"more (it would lose {gain:.2%} without). Train longer, or, if {weight} is too large, try a tenth."
            )
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
        elif sd < self.noise / 2:
            msg = (
                f"the activations of layer {self.layer!r} have collapsed: their standard deviation over cells is {sd:.2g}, the "
                f"noise of training {self.noise:g}. {weight} is too large; try a tenth."
            )
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
        elif self._gain_before is not None and gain < self._gain_before / 2:
            msg = (
                f"layer {self.layer!r} lost most of what it held before the penalty set in: without it the reconstruction "
                f"would lose {gain:.2%}, then {self._gain_before:.2%}. {weight} is large; try a tenth."
            )
            warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)

        if not self.of_input and hasattr(pl_module.module, "multiply_layer"):
            self._make_readable(pl_module.module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let go of the layer."""
        self._release(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go of the layer."""
        self._release(pl_module)

    # ----------------------------------------------------------------------------------------------------------------

    def _penalty(self, output: LossOutput) -> torch.Tensor:
        """Weighted penalty of the minibatch that has just gone through the network."""
        penalties = [
            layer.penalty(layer.z) if layer.penalty is not None else layer.z.new_zeros(())
            for layer in self._layers.values()
        ]
        penalty = torch.stack(penalties).sum()
        if torch.is_grad_enabled():  # a training step
            sd = torch.stack([z.detach().reshape(-1, z.shape[-1]).std(dim=0).mean() for z in self._recorded()]).mean()
            self._totals += [1, float(penalty.detach()) / len(penalties), float(sd)]
        if not self._is_on:
            return penalty.new_zeros(())
        weight = self.weight
        if weight is None:
            weight = DEFAULT_SHARE * (output.reconstruction_loss_sum.detach() / output.n_obs_minibatch).clamp(min=0)
        return weight * penalty

    def _recorded(self) -> list[torch.Tensor]:
        return [layer.z for layer in self._layers.values()]

    def _use_graph(self, name: str, adjacency: sparse.csr_array, step: int) -> None:
        layer = self._layers[name]
        components = connected_components(adjacency, directed=False)[1]
        is_split = components.max() > 0
        same = layer.components is not None and np.array_equal(components, layer.components)
        layer.n_same = layer.n_same + 1 if same else 1
        layer.frozen = not self.is_learned or bool(is_split and layer.n_same >= self.patience)
        record = {"step": step, "layer": name, "n_edges": adjacency.nnz // 2, "n_components": int(components.max()) + 1}
        before = self.adjacency_.get(name)
        record["changed"] = float("nan") if before is None else _share_changed(before, adjacency)
        self.history_.append(record | {"frozen": layer.frozen})
        layer.components, self.adjacency_[name] = components, adjacency
        layer.penalty = GraphPenalty(adjacency, self.laplacian, self.normalize, self.balance).to(layer.z.device)

    def _draw_sample(self, trainer: Trainer) -> list[dict[str, torch.Tensor]]:
        sample, n_cells = [], 0
        with torch.random.fork_rng(devices=[]):  # the order of minibatches stays that of a run without the penalty
            for tensors in trainer.datamodule.train_dataloader():
                sample.append(tensors)
                n_cells += len(next(iter(tensors.values())))
                if n_cells >= self.n_cells:
                    break
        return sample

    def _make_readable(self, module: nn.Module) -> None:
        for name, z in self._activations(module).items():
            penalty = self._layers[name].penalty
            if penalty is None:
                continue
            # on a learned graph that is connected, joined neurons are known to be alike one by one
            wanted = (self.readable and not self.is_learned) if penalty.is_connected else self.unmix
            if wanted:
                module.multiply_layer(name, torch.from_numpy(readable_axes(z, penalty.roughness)))

    @torch.no_grad()
    def _losses(self, module: nn.Module) -> float:
        """Mean reconstruction loss of the sample."""
        outputs = [module(tensors)[2] for tensors in self._sample]
        return sum(float(o.reconstruction_loss_sum) for o in outputs) / sum(o.n_obs_minibatch for o in outputs)

    def _gain(self, module: nn.Module) -> float:
        """Share of the reconstruction loss that would be added if all cells had the same activations."""
        with Evaluation(module):
            means = {name: torch.from_numpy(z.mean(axis=0)) for name, z in self._activations(module).items()}
            loss = self._losses(module)
            for name, layer in self._layers.items():
                layer.replacement = means[name].to(layer.z)
            replaced = self._losses(module)
            for layer in self._layers.values():
                layer.replacement = None
        return (replaced - loss) / max(abs(replaced), 1e-12)

    @torch.no_grad()
    def _activations(self, module: nn.Module) -> dict[str, NDArray[np.float32]]:
        """Activations of the sample, by layer."""
        found = {name: [] for name in self._layers}
        with Evaluation(module):
            for tensors in self._sample:
                module(tensors, compute_loss=False)
                for name, layer in self._layers.items():
                    found[name].append(layer.z.detach().reshape(-1, layer.z.shape[-1]).cpu().numpy())
        return {name: np.concatenate(z) for name, z in found.items()}

    def _release(self, pl_module: LightningModule) -> None:
        for layer in self._layers.values():
            layer.handle.remove()
        self._layers, self._sample = {}, []
        pl_module.penalties = [penalty for penalty in pl_module.penalties if penalty != self._penalty]


def _share_changed(before: sparse.csr_array, after: sparse.csr_array) -> float:
    before, after = before > 0, after > 0
    n_either = (before + after).nnz
    return (before != after).nnz / n_either if n_either else 0.0
