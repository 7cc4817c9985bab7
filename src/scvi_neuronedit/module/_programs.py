"""Neurons of an autoencoder that stand for known gene programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scvi_neuronedit.nn import WeightChain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from scvi_neuronedit.nn import Autoencoder


class GenePrograms:
    """The first neurons of a layer next to the genes, one for each program; the others stay free.

    Parameters
    ----------
    gene_sets
        Genes of each program.
    features
        Names of the network's features.
    layer
        The layer that reads the genes (the first), or the one the output layer reads (the last but one).
    """

    def __init__(self, gene_sets: Mapping[str, Sequence[str]], features: Sequence[str], layer: str) -> None:
        self.layer = layer
        self.names = list(gene_sets)
        self.mask = torch.from_numpy(np.stack([np.isin(features, genes) for genes in gene_sets.values()]))

    def linear(self, network: Autoencoder) -> nn.Linear:
        """The linear map between genes and program neurons."""
        return network.layers[self.layer if self._reads_genes(network) else "output"][0]

    def by_neuron(self, network: Autoencoder, weight: torch.Tensor) -> torch.Tensor:
        """Weights of :meth:`linear` turned to ``[n_neurons, n_genes]``."""
        return weight if self._reads_genes(network) else weight.T

    def chain(self, network: Autoencoder) -> WeightChain:
        """What is pruned: the weights of the program neurons, guided by the programs."""
        weight = self.linear(network).weight
        prior, prunable = torch.zeros_like(weight), torch.zeros_like(weight, dtype=torch.bool)
        n_programs = len(self.names)
        self.by_neuron(network, prior)[:n_programs] = self.mask.to(prior)
        self.by_neuron(network, prunable)[:n_programs] = True
        return WeightChain((self.linear(network),), prior, prunable=prunable)

    @torch.no_grad()
    def initialize(self, network: Autoencoder) -> None:
        """Let every program neuron start with positive weights of its genes, so that more of them means more of it."""
        weight = self.by_neuron(network, self.linear(network).weight)[: len(self.names)]
        weight[self.mask] = weight[self.mask].abs()

    def _reads_genes(self, network: Autoencoder) -> bool:
        return self.layer == network.layer_names[0]
