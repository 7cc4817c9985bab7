"""How perturbations shift the latent variables: distributions over masks and effects, shared by all cells."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from scvi_neuronedit.nn._residual_mlp import ResidualMLP
from scvi_neuronedit.nn._sparse_rotation import sparse_rotation

_MIN_SCALE = 1e-4
_N_EFFECT_LAYERS = 4
# log odds at which masks start: this slope times the logarithm of the effect, and not beyond the limit
_START_SLOPE, _START_LIMIT = 4.0, 3.0


class ShiftSample(NamedTuple):
    """Draws of the global variables.

    Parameters
    ----------
    shift
        Latent shift of each perturbation at dosage 1, of shape ``[n_particles, n_perturbations, n_latent]``.
    kl
        Their global term of the ELBO, summed over perturbations and latents, averaged over particles; a scalar.
    """

    shift: torch.Tensor
    kl: torch.Tensor


class ShiftMoments(NamedTuple):
    """Posterior of the shifts, each of shape ``[n_perturbations, n_latent]``.

    Parameters
    ----------
    inclusion
        Probability that the mask is 1.
    mean, sd
        Mean and standard deviation of mask times effect.
    """

    inclusion: torch.Tensor
    mean: torch.Tensor
    sd: torch.Tensor


def straight_through_bernoulli(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Draw zeros and ones whose gradient is that of the Gumbel-softmax (binary concrete) relaxation.

    Parameters
    ----------
    logits
        Logits of the probabilities of 1.
    temperature
        Temperature of the relaxation.

    Returns
    -------
    Zeros and ones of the shape of ``logits``.
    """
    uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((logits + uniform.logit()) / temperature)
    return (soft > 0.5).to(soft.dtype) + soft - soft.detach()


def bernoulli_kl(logits: torch.Tensor, prior_logits: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of Bernoulli distributions, element by element.

    Parameters
    ----------
    logits, prior_logits
        Logits of the probabilities of 1 under both distributions.
    """
    probability = torch.sigmoid(logits)
    return probability * (functional.logsigmoid(logits) - functional.logsigmoid(prior_logits)) + (1 - probability) * (
        functional.logsigmoid(-logits) - functional.logsigmoid(-prior_logits)
    )


def normal_kl(mean: torch.Tensor, scale: torch.Tensor, prior_scale: float = 1.0) -> torch.Tensor:
    """Kullback-Leibler divergence from a normal to a centred normal distribution, element by element.

    Parameters
    ----------
    mean, scale
        Mean and standard deviation.
    prior_scale
        Standard deviation of the centred one.
    """
    ratio = scale / prior_scale
    return 0.5 * (ratio**2 + (mean / prior_scale) ** 2 - 1) - torch.log(ratio)


class SparseShift(nn.Module):
    r"""Masked effects of SAMS-VAE, with a guide for each.

    .. math::
        m_t \sim \mathrm{Bernoulli}(\pi)^K, \quad e_t \sim N(0, s^2 I_K), \quad
        q(m_t) = \mathrm{Bernoulli}(\sigma(\phi_t)), \quad q(e_t \mid m_t) = N(\mu_t(m_t), \sigma_t(m_t)^2)

    Masks are drawn by a straight-through Gumbel-softmax at temperature 1, one draw per particle. While ``dense`` is set, which
    is part of the state, all are 1 instead.

    Parameters
    ----------
    n_perturbations, n_latent
        Number of perturbations and of latent variables.
    mask_probability
        Prior probability :math:`\pi` of a mask being 1.
    effect_scale
        Prior standard deviation :math:`s` of the effects.
    correlated
        Whether a network's function of mask and perturbation (four hidden layers, at first zero) is added to mean and
        raw scale of the effects, which are free parameters otherwise (mean field).
    n_hidden
        Width of that network's hidden layers.
    analytic_kl
        Whether the divergences of the global variables are computed or, as in the published code, estimated by
        the draw, which the straight-through gradient makes biased.
    """

    def __init__(
        self,
        n_perturbations: int,
        n_latent: int,
        *,
        mask_probability: float,
        effect_scale: float = 1.0,
        correlated: bool = True,
        n_hidden: int = 400,
        analytic_kl: bool = True,
    ) -> None:
        super().__init__()
        self.effect_scale, self.correlated, self.analytic_kl = effect_scale, correlated, analytic_kl
        self.dense = False
        self.mask_logits = nn.Parameter(torch.zeros(n_perturbations, n_latent))
        self.register_buffer("prior_logit", torch.tensor(math.log(mask_probability) - math.log1p(-mask_probability)))
        self.effect_mean = nn.Parameter(torch.zeros(n_perturbations, n_latent))
        self.effect_raw_scale = nn.Parameter(torch.zeros(n_perturbations, n_latent))
        if correlated:
            self.effect = ResidualMLP((n_latent, n_perturbations), 2 * n_latent, n_hidden, _N_EFFECT_LAYERS)
            nn.init.zeros_(self.effect.output.weight)
            nn.init.zeros_(self.effect.output.bias)

    def forward(self, n_particles: int) -> ShiftSample:
        """Draw masks and effects.

        Parameters
        ----------
        n_particles
            Number of draws.
        """
        logits = self.mask_logits.expand(n_particles, -1, -1)
        mask = torch.ones_like(logits) if self.dense else straight_through_bernoulli(logits)
        mean, scale = self._effect_given(mask)
        effect = mean + scale * torch.randn_like(mask)
        if self.dense:
            kl_mask = -functional.logsigmoid(self.prior_logit)
            kl_effect = normal_kl(mean, scale, self.effect_scale)
        elif self.analytic_kl:
            kl_mask = bernoulli_kl(self.mask_logits, self.prior_logit)
            kl_effect = normal_kl(mean, scale, self.effect_scale)
        else:
            kl_mask = _bernoulli_log_prob(mask, self.mask_logits) - _bernoulli_log_prob(mask, self.prior_logit)
            kl_effect = _normal_log_prob(effect, mean, scale) - _normal_log_prob(effect, 0.0, self.effect_scale)
        return ShiftSample(mask * effect, (kl_mask + kl_effect).sum() / n_particles)

    def effect_parameters(self) -> list[nn.Parameter]:
        """Means and raw standard deviations of the effects, which are learnt faster than all else."""
        return [self.effect_mean, self.effect_raw_scale]

    def inclusion(self) -> torch.Tensor:
        """Posterior probability of each mask being 1, of shape ``[n_perturbations, n_latent]``."""
        return torch.ones_like(self.mask_logits) if self.dense else torch.sigmoid(self.mask_logits)

    @torch.no_grad()
    def start_dense(self) -> None:
        """Begin the dense phase: set all masks to 1, and add what the network says of them to the free parameters."""
        self.dense = True
        if self.correlated:
            ones = torch.ones_like(self.mask_logits)
            mean, raw_scale = self.effect(ones, torch.eye(len(ones)).to(ones)).chunk(2, dim=-1)
            self.effect_mean += mean
            self.effect_raw_scale += raw_scale
            nn.init.zeros_(self.effect.output.weight)
            nn.init.zeros_(self.effect.output.bias)

    @torch.no_grad()
    def start_masks(self, *, rotate: bool = True) -> torch.Tensor:
        r"""End the dense phase: rotate the effects to where they are sparsest, and start the masks there.

        Masks start at log odds of :math:`4 \log(|e| / e_\pi)`, between -3 and 3, where the share :math:`\pi` of the effects is larger
        than :math:`e_\pi`.

        Parameters
        ----------
        rotate
            Whether to rotate; if not, the rotation returned is none.

        Returns
        -------
        The rotation, of shape ``[n_latent, n_latent]``, that everything else which reads or makes latent variables must follow.
        """
        if rotate:
            with torch.enable_grad():
                rotation = sparse_rotation(self.effect_mean)
        else:
            rotation = torch.eye(self.effect_mean.shape[1]).to(self.effect_mean)
        self.effect_mean.copy_(self.effect_mean @ rotation)
        size = self.effect_mean.abs()
        typical = size.quantile(torch.sigmoid(-self.prior_logit))
        log_odds = _START_SLOPE * torch.log((size / typical).nan_to_num())
        self.mask_logits.copy_(log_odds.clamp(-_START_LIMIT, _START_LIMIT))
        self.dense = False
        return rotation

    def get_extra_state(self) -> torch.Tensor:
        """Whether the dense phase is on; a tensor, as all else in a state is."""
        return torch.tensor(self.dense)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Go to the phase of a saved state.

        Parameters
        ----------
        state
            As :meth:`get_extra_state` returned it.
        """
        self.dense = bool(state)

    def moments(self, n_particles: int = 200) -> ShiftMoments:
        """Posterior of the shifts: exact for the mean-field guide or without masks, else over draws of the mask.

        Parameters
        ----------
        n_particles
            Number of draws.
        """
        inclusion = self.inclusion()
        if self.dense or not self.correlated:
            mean, scale = self._effect_given(inclusion)
            return ShiftMoments(inclusion, *_masked_moments(inclusion, mean, scale))
        first, second = torch.zeros_like(inclusion), torch.zeros_like(inclusion)
        for _ in range(n_particles):
            mask = straight_through_bernoulli(self.mask_logits)
            mean, scale = self._effect_given(mask)
            first += mask * mean / n_particles
            second += mask * (mean**2 + scale**2) / n_particles
        return ShiftMoments(inclusion, first, (second - first**2).clamp(min=0).sqrt())

    def _effect_given(self, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, raw_scale = self.effect_mean.expand_as(mask), self.effect_raw_scale.expand_as(mask)
        if self.correlated and not self.dense:
            perturbation = torch.eye(mask.shape[-2], dtype=mask.dtype, device=mask.device)
            more_mean, more_raw_scale = self.effect(mask, perturbation).chunk(2, dim=-1)
            mean, raw_scale = mean + more_mean, raw_scale + more_raw_scale
        return mean, functional.softplus(raw_scale) + _MIN_SCALE


class DenseShift(nn.Module):
    r"""Effects of CPA-VAE: :math:`e_t \sim N(0, s^2 I_K)` with a mean-field guide, every mask 1.

    Parameters
    ----------
    n_perturbations, n_latent
        Number of perturbations and of latent variables.
    effect_scale
        Prior standard deviation :math:`s` of the effects.
    """

    def __init__(self, n_perturbations: int, n_latent: int, *, effect_scale: float = 1.0) -> None:
        super().__init__()
        self.effect_scale = effect_scale
        self.effect_mean = nn.Parameter(torch.zeros(n_perturbations, n_latent))
        self.effect_raw_scale = nn.Parameter(torch.zeros(n_perturbations, n_latent))

    def forward(self, n_particles: int) -> ShiftSample:
        """Draw effects.

        Parameters
        ----------
        n_particles
            Number of draws.
        """
        mean, scale = self.effect_mean, functional.softplus(self.effect_raw_scale) + _MIN_SCALE
        effect = mean + scale * torch.randn(n_particles, *mean.shape, dtype=mean.dtype, device=mean.device)
        return ShiftSample(effect, normal_kl(mean, scale, self.effect_scale).sum())

    def effect_parameters(self) -> list[nn.Parameter]:
        """Means and raw standard deviations of the effects, which are learnt faster than all else."""
        return [self.effect_mean, self.effect_raw_scale]

    def inclusion(self) -> torch.Tensor:
        """Ones, of shape ``[n_perturbations, n_latent]``."""
        return torch.ones_like(self.effect_mean)

    def moments(self) -> ShiftMoments:
        """Posterior of the shifts."""
        scale = functional.softplus(self.effect_raw_scale) + _MIN_SCALE
        return ShiftMoments(self.inclusion(), self.effect_mean, scale)


class PriorShift(nn.Module):
    r"""Sparse mechanism shift of SVAE+ (Lopez et al., CLeaR 2023): the mean of the latent variables' prior.

    .. math::
        \pi_k \sim \mathrm{Beta}(1, c), \quad m_{tk} \sim \mathrm{Bernoulli}(\pi_k), \quad z \mid t \sim N(m_t \mu_t, I_K)

    :math:`\pi` and :math:`\mu` are point estimates, :math:`q(m_t) = \mathrm{Bernoulli}(\sigma(\phi_t))`.

    Parameters
    ----------
    n_perturbations, n_latent
        Number of perturbations and of latent variables.
    concentration
        :math:`c`; the larger, the fewer shifts.
    """

    def __init__(self, n_perturbations: int, n_latent: int, *, concentration: float = 2.0) -> None:
        super().__init__()
        self.concentration = concentration
        self.mask_logits = nn.Parameter(torch.zeros(n_perturbations, n_latent))
        self.prior_logits = nn.Parameter(torch.zeros(n_latent))
        self.mean = nn.Parameter(0.01 * torch.randn(n_perturbations, n_latent))

    def forward(self, n_particles: int) -> ShiftSample:
        """Draw masks.

        Parameters
        ----------
        n_particles
            Number of draws.
        """
        mask = straight_through_bernoulli(self.mask_logits.expand(n_particles, -1, -1))
        # log Beta(pi; 1, c) = log c + (c - 1) log(1 - pi)
        log_prior = math.log(self.concentration) + (self.concentration - 1) * functional.logsigmoid(-self.prior_logits)
        kl = bernoulli_kl(self.mask_logits, self.prior_logits).sum() - log_prior.sum()
        return ShiftSample(mask * self.mean, kl)

    def effect_parameters(self) -> list[nn.Parameter]:
        """Means of the shifts, which are learnt faster than all else."""
        return [self.mean]

    def inclusion(self) -> torch.Tensor:
        """Posterior probability of each mask being 1, of shape ``[n_perturbations, n_latent]``."""
        return torch.sigmoid(self.mask_logits)

    def moments(self) -> ShiftMoments:
        """Posterior of the shifts."""
        inclusion = self.inclusion()
        return ShiftMoments(inclusion, *_masked_moments(inclusion, self.mean, torch.zeros_like(self.mean)))


def _masked_moments(
    inclusion: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of mask times effect, both independent."""
    first = inclusion * mean
    return first, (inclusion * (mean**2 + scale**2) - first**2).clamp(min=0).sqrt()


def _bernoulli_log_prob(mask: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return mask * functional.logsigmoid(logits) + (1 - mask) * functional.logsigmoid(-logits)


def _normal_log_prob(x: torch.Tensor, mean: torch.Tensor | float, scale: torch.Tensor | float) -> torch.Tensor:
    scale = torch.as_tensor(scale, dtype=x.dtype, device=x.device)
    return -0.5 * ((x - mean) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)
