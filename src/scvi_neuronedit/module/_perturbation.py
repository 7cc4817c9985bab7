"""scvi-tools module shared by SAMS-VAE and its relatives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput
from torch import nn
from torch.nn import functional
from torch.nn.utils.prune import is_pruned

from scvi_neuronedit.data import unknown_name
from scvi_neuronedit.nn import KeepsMasks, ResidualMLP, normal_kl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DOSAGE_KEY = "dosage"
PERTURBATION_LIKELIHOODS = ("nb", "normal")
_MIN_SCALE = 1e-3


class PerturbationModule(KeepsMasks, BaseModuleClass):
    r"""Variational autoencoder whose latent variables perturbations shift.

    With dosages :math:`d_n` of cell :math:`n`, shifts :math:`u_t` of the perturbations and decoder :math:`f`

    .. math::
        z_n = z^b_n + \sum_t d_{nt} u_t, \quad z^b_n \sim N(0, I_K), \quad
        x_n \sim \mathrm{NB}(\ell_n \, \mathrm{softmax}(f(z_n)), \theta) \ \mathrm{or} \ N(f(z_n), \sigma^2)

    with one inverse dispersion :math:`\theta` or standard deviation :math:`\sigma` per gene and :math:`\ell_n` the cell's total
    count. What the models differ in: the distribution of the shifts, what the encoder of :math:`z^b` reads, and whether
    encoder and decoder are given the dosages.

    Parameters
    ----------
    n_input, n_perturbations, n_latent
        Number of genes, perturbations and latent variables.
    shift
        Distribution of the shifts, such as :class:`~scvi_neuronedit.nn.SparseShift`. No shifts if ``None``.
    n_batch
        Number of batches, given to the decoder where there are more than one.
    basal
        Guide of :math:`z^b`. ``"correlated"``: :math:`q(z^b \mid x, \sum_t d_t u_t)`. ``"mean_field"``:
        :math:`q(z^b \mid x)`. ``"total"``: :math:`q(z \mid x)`, from which the shift is subtracted.
    condition_on_dosage
        Whether the dosages are an input of encoder and decoder.
    likelihood
        ``"nb"`` or ``"normal"``.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder.
    n_particles
        Number of draws of the latent variables in a training step.
    """

    def __init__(
        self,
        n_input: int,
        n_perturbations: int,
        n_latent: int,
        shift: nn.Module | None,
        *,
        n_batch: int = 1,
        basal: Literal["correlated", "mean_field", "total"] = "correlated",
        condition_on_dosage: bool = False,
        likelihood: Literal["nb", "normal"] = "nb",
        n_hidden: int = 400,
        n_layers: int = 1,
        n_particles: int = 5,
    ) -> None:
        super().__init__()
        self.n_latent, self.n_batch, self.n_particles = n_latent, n_batch, n_particles
        self.basal, self.condition_on_dosage, self.likelihood = basal, condition_on_dosage, likelihood
        self.shift = shift
        dosage = [n_perturbations] * condition_on_dosage
        self.encoder = ResidualMLP(
            [n_input, *dosage, *[n_latent] * (basal == "correlated")], 2 * n_latent, n_hidden, n_layers
        )
        self.decoder = ResidualMLP([n_latent, *dosage, *[n_batch] * (n_batch > 1)], n_input, n_hidden, n_layers)
        # log inverse dispersion, or raw standard deviation, of each gene
        self.gene_parameter = nn.Parameter(torch.zeros(n_input))
        self.register_buffer("input_mean", torch.zeros(n_input))
        self.register_buffer("input_sd", torch.ones(n_input))

    @property
    def n_neurons(self) -> dict[str, int]:
        """Width of each hidden layer of the decoder, ``decoder_1``, ``decoder_2``, ..."""
        return {f"decoder_{i + 1}": self.decoder.output.in_features for i in range(len(self.decoder.activations))}

    def find_layers(self, layer: str) -> dict[str, nn.Module]:
        """What the activations of a hidden layer of the decoder pass through."""
        if layer not in self.n_neurons:
            raise ValueError(unknown_name("layer", layer, "the decoder", list(self.n_neurons)))
        return {layer: self.decoder.activations[_number(layer) - 1]}

    def network_input(self, x: torch.Tensor) -> torch.Tensor:
        """Values, or log1p of counts, standardised by mean and standard deviation of the training cells."""
        x = torch.log1p(x) if self.likelihood == "nb" else x
        return (x - self.input_mean) / self.input_sd

    def library_size(self, x: torch.Tensor) -> torch.Tensor:
        """Total count of each cell over the modelled genes, of shape ``[n_cells, 1]``; at least 1."""
        return x.sum(dim=1, keepdim=True).clamp(min=1)

    def draw_shifts(self, n_particles: int) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Draws of the shifts, of shape ``[n_particles, n_perturbations, n_latent]``, and their global term."""
        if self.shift is None:
            return None, self.gene_parameter.new_zeros(())
        return self.shift(n_particles)

    def total_shift(self, dosage: torch.Tensor, shifts: torch.Tensor | None) -> torch.Tensor:
        """Sum over perturbations of dosage times shift, of shape ``[n_particles, n_cells, n_latent]``."""
        return dosage.new_zeros(1, 1, self.n_latent) if shifts is None else dosage @ shifts

    def encode(self, x: torch.Tensor, dosage: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the guide of the basal latent variables.

        Parameters
        ----------
        x
            Cells of shape ``[n_cells, n_input]``.
        dosage
            Dosages of shape ``[n_cells, n_perturbations]``.
        shift
            As :meth:`total_shift` returns it.
        """
        inputs = [self.network_input(x)] + [dosage] * self.condition_on_dosage
        inputs += [shift] * (self.basal == "correlated")
        mean, raw_scale = self.encoder(*inputs).chunk(2, dim=-1)
        if self.basal == "total":
            mean = mean - shift
        return mean, functional.softplus(raw_scale) + _MIN_SCALE

    def decode(
        self, z: torch.Tensor, dosage: torch.Tensor, batch: torch.Tensor | None, until: str | None = None
    ) -> torch.Tensor:
        """Decoder output of shape ``[..., n_cells, n_input]``: log-rates up to a constant, or means.

        Parameters
        ----------
        z
            Latent variables of shape ``[..., n_cells, n_latent]``.
        dosage
            Dosages of shape ``[n_cells, n_perturbations]``.
        batch
            Codes of the batches, of shape ``[n_cells, 1]``.
        until
            Stop with the activations of this layer.
        """
        inputs = [z] + [dosage] * self.condition_on_dosage
        if self.n_batch > 1:
            inputs.append(functional.one_hot(batch.long().squeeze(-1), self.n_batch).to(z.dtype))
        return self.decoder(*inputs, until=None if until is None else _number(until))

    def decode_activations(self, activations: torch.Tensor, layer: str) -> torch.Tensor:
        """Decoder output, of shape ``[..., n_input]``, of activations of a layer, of shape ``[..., n_neurons]``."""
        return self.decoder(activations, after=_number(layer))

    @torch.no_grad()
    def start_masks(self) -> None:
        """End the dense phase of the shifts, and turn encoder and decoder with them.

        The prior of the basal latent variables is the same from all sides, and the layers next to them are linear: but for the standard
        deviations of the encoder, which are learnt anew, the model stays what it was. Where one of these layers is pruned, whose
        zeros belong to the directions there are, nothing is turned.
        """
        layers = self.decoder.first, self.encoder.first, self.encoder.output
        rotation = self.shift.start_masks(rotate=not any(is_pruned(layer) for layer in layers))
        n_latent = self.n_latent
        readers = [self.decoder.first.weight[:, :n_latent]]
        if self.basal == "correlated":
            readers.append(self.encoder.first.weight[:, -n_latent:])
        for weight in readers:
            weight.copy_(weight @ rotation)
        output = self.encoder.output
        output.weight[:n_latent] = rotation.T @ output.weight[:n_latent]
        output.bias[:n_latent] = output.bias[:n_latent] @ rotation

    def mean(self, output: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """Expected values, on the scale of the data."""
        return output if self.likelihood == "normal" else torch.softmax(output, dim=-1) * library

    def gene_sd(self) -> torch.Tensor:
        """Standard deviation of each gene under the normal likelihood, of shape ``[n_input]``."""
        return functional.softplus(self.gene_parameter) + _MIN_SCALE

    def inverse_dispersion(self) -> NDArray[np.float64]:
        """Inverse dispersion of each gene under the negative binomial, of shape ``[n_input]``."""
        return self.gene_parameter.detach().exp().cpu().double().numpy()

    def log_likelihood(self, x: torch.Tensor, output: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """Log-likelihood of each cell, summed over genes, of shape ``[..., n_cells]``."""
        if self.likelihood == "normal":
            sd = self.gene_sd()
            square = ((x - output) / sd) ** 2
            return -0.5 * square.sum(-1) - sd.log().sum() - 0.5 * x.shape[-1] * math.log(2 * math.pi)
        theta = self.gene_parameter.exp()
        # the gamma functions are the costly part; they do not depend on the particle
        constant = (torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)).sum(-1)
        logit = torch.log_softmax(output, dim=-1) + library.log() - self.gene_parameter
        return constant + (x * logit - (x + theta) * functional.softplus(logit)).sum(-1)

    def draw(self, output: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """Draw cells from the likelihood, of the shape of ``output``."""
        mean = self.mean(output, library)
        if self.likelihood == "normal":
            return mean + self.gene_sd() * torch.randn_like(mean)
        theta = self.gene_parameter.exp().expand_as(mean)
        rate = torch.distributions.Gamma(theta, theta / mean.clamp(min=1e-8), validate_args=False).sample()
        return torch.poisson(rate)

    def _get_inference_input(self, tensors: dict[str, torch.Tensor], **kwargs) -> dict:
        return {"x": tensors[REGISTRY_KEYS.X_KEY], "dosage": tensors[DOSAGE_KEY]}

    def inference(
        self, x: torch.Tensor, dosage: torch.Tensor, n_particles: int | None = None
    ) -> dict[str, torch.Tensor]:
        """Draw shifts and basal latent variables from their guides.

        Parameters
        ----------
        x, dosage
            Cells, and their dosages.
        n_particles
            Number of draws. As in training if ``None``.

        Returns
        -------
        Draws ``basal`` with the ``mean`` and ``scale`` of their guide and the total ``shift``, with the dimensions particles,
        cells, latent variables; ``shifts`` of the perturbations, ``kl_global`` and ``library``.
        """
        n_particles = n_particles or self.n_particles
        shifts, kl_global = self.draw_shifts(n_particles)
        shift = self.total_shift(dosage, shifts)
        mean, scale = self.encode(x, dosage, shift)
        basal = mean + scale * torch.randn(n_particles, *mean.shape[-2:], dtype=mean.dtype, device=mean.device)
        return {
            "basal": basal,
            "mean": mean,
            "scale": scale,
            "shift": shift,
            "shifts": shifts,
            "kl_global": kl_global,
            "library": self.library_size(x),
        }

    def _get_generative_input(self, tensors: dict, inference_outputs: dict, **kwargs) -> dict:
        return {
            "z": inference_outputs["basal"] + inference_outputs["shift"],
            "dosage": tensors[DOSAGE_KEY],
            "batch": tensors.get(REGISTRY_KEYS.BATCH_KEY),
        }

    def generative(
        self, z: torch.Tensor, dosage: torch.Tensor, batch: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Decode."""
        return {"output": self.decode(z, dosage, batch)}

    def loss(self, tensors: dict, inference_outputs: dict, generative_outputs: dict, n_obs: int = 1) -> LossOutput:
        """Negative ELBO per cell.

        The mean over the minibatch of reconstruction and divergence of the basal latent variables, plus the global
        term (masks and effects of *all* perturbations) divided by the number of training cells: in expectation over
        minibatches, the full-data ELBO divided by that number.

        Parameters
        ----------
        tensors, inference_outputs, generative_outputs
            As scvi-tools passes them.
        n_obs
            Number of training cells.
        """
        q = inference_outputs
        reconstruction, kl_local = self._local_terms(tensors[REGISTRY_KEYS.X_KEY], q, generative_outputs["output"])
        loss = (reconstruction + kl_local).mean() + q["kl_global"] / n_obs
        extra = {}
        if self.shift is not None:
            inclusion = self.shift.inclusion().detach()
            extra = {"active": (inclusion > 0.5).float().mean(), "expected_active": inclusion.mean()}
        return LossOutput(
            loss=loss,
            reconstruction_loss=reconstruction,
            kl_local=kl_local,
            kl_global=q["kl_global"],
            extra_metrics=extra,
        )

    def elbo(
        self, x: torch.Tensor, dosage: torch.Tensor, batch: torch.Tensor | None, n_particles: int, n_obs: int
    ) -> torch.Tensor:
        """Evidence lower bound of each cell, the global term divided by ``n_obs``; of shape ``[n_cells]``."""
        q = self.inference(x, dosage, n_particles)
        reconstruction, kl_local = self._local_terms(x, q, self.decode(q["basal"] + q["shift"], dosage, batch))
        return -(reconstruction + kl_local) - q["kl_global"] / n_obs

    def _local_terms(
        self, x: torch.Tensor, q: dict[str, torch.Tensor], output: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstruction loss and divergence of the basal latent variables of each cell, means over particles."""
        kl = normal_kl(q["mean"], q["scale"]).sum(-1)
        return -self.log_likelihood(x, output, q["library"]).mean(0), kl.mean(0) if kl.ndim > 1 else kl

    def log_weights(
        self, x: torch.Tensor, dosage: torch.Tensor, batch: torch.Tensor | None, n_particles: int
    ) -> torch.Tensor:
        r"""Log importance weights :math:`\log p(x, z^b) - \log q(z^b)` of draws, of shape ``[n_particles, n_cells]``.

        The shifts are drawn from their guide and not scored.
        """
        q = self.inference(x, dosage, n_particles)
        output = self.decode(q["basal"] + q["shift"], dosage, batch)
        log_ratio = -0.5 * q["basal"] ** 2 + 0.5 * ((q["basal"] - q["mean"]) / q["scale"]) ** 2 + q["scale"].log()
        return self.log_likelihood(x, output, q["library"]) + log_ratio.sum(-1)


def _number(layer: str) -> int:
    """Number of a hidden layer of the decoder, counted from 1."""
    return int(layer.partition("_")[2])
