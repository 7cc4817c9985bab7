"""Regulatory dynamics of gene expression as a neural differential equation (PHOENIX)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torchdiffeq import odeint, odeint_adjoint

from scvi_neuronedit.nn._dash import WeightChain
from scvi_neuronedit.nn._masks import effective_weight

SOLVERS = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "rk4", "midpoint", "euler")
_FIXED_STEPS = {"rk4": 4, "midpoint": 8, "euler": 16}  # sixteen evaluations each
_MAX_STEPS = 1_000


class DynamicsWeights(NamedTuple):
    """Everything the velocity depends on, as plain tensors: masks applied, the outputs of both blocks joined."""

    sum_weight: torch.Tensor
    sum_bias: torch.Tensor
    product_weight: torch.Tensor
    product_bias: torch.Tensor
    combine: torch.Tensor
    rates: torch.Tensor


class RegulatoryDynamics(nn.Module):
    r"""Velocity of gene expression as a sum of additive and multiplicative regulation (Hossain et al., 2024).

    With :math:`\phi_\Sigma(x) = (x - \tfrac12) / (1 + |x - \tfrac12|)` and :math:`\phi_\Pi = \log(\phi_\Sigma + 1)`

    .. math::
        c_\Sigma = W_\Sigma \phi_\Sigma(g) + b_\Sigma, \quad c_\Pi = \exp(W_\Pi \phi_\Pi(g) + b_\Pi), \quad
        \frac{dg}{dt} = \mathrm{ReLU}(\upsilon) \odot (U_\Sigma c_\Sigma + U_\Pi c_\Pi - g).

    Expression is expected on a scale of about 0 to 1.

    Parameters
    ----------
    n_genes
        Number of genes.
    n_hidden
        Number of neurons of each block.
    """

    def __init__(self, n_genes: int, n_hidden: int = 40) -> None:
        super().__init__()
        self.sums = nn.Linear(n_genes, n_hidden)
        self.products = nn.Linear(n_genes, n_hidden)
        self.combine_sums = nn.Linear(n_hidden, n_genes, bias=False)
        self.combine_products = nn.Linear(n_hidden, n_genes, bias=False)
        self.gene_multipliers = nn.Parameter(torch.rand(n_genes))
        for layer in (self.sums, self.products):
            nn.init.sparse_(layer.weight, sparsity=min(0.95, (n_hidden - 1.5) / n_hidden), std=0.05)
        for layer in (self.combine_sums, self.combine_products):
            nn.init.orthogonal_(layer.weight, gain=nn.init.calculate_gain("sigmoid"))

    def weights(self) -> DynamicsWeights:
        """The weights as they are now, to be handed to :meth:`velocity`."""
        combine = torch.cat([effective_weight(self.combine_sums), effective_weight(self.combine_products)], dim=1)
        return DynamicsWeights(
            effective_weight(self.sums),
            self.sums.bias,
            effective_weight(self.products),
            self.products.bias,
            combine,
            functional.relu(self.gene_multipliers),
        )

    @staticmethod
    def regulation(g: torch.Tensor, weights: DynamicsWeights) -> torch.Tensor:
        r"""Level :math:`c(g)` that regulation drives each gene to.

        Parameters
        ----------
        g
            Expression of shape ``[n_cells, n_genes]``.
        weights
            See :meth:`weights`.

        Returns
        -------
        Tensor of shape ``[n_cells, n_genes]``.
        """
        phi = functional.softsign(g - 0.5)
        sums = functional.linear(phi, weights.sum_weight, weights.sum_bias)
        products = functional.linear(torch.log1p(phi), weights.product_weight, weights.product_bias).exp()
        return functional.linear(torch.cat([sums, products], dim=-1), weights.combine)

    @classmethod
    def velocity(cls, g: torch.Tensor, weights: DynamicsWeights) -> torch.Tensor:
        """Rate of change of expression, per unit of time.

        Parameters
        ----------
        g
            Expression of shape ``[n_cells, n_genes]``.
        weights
            See :meth:`weights`.

        Returns
        -------
        Tensor of shape ``[n_cells, n_genes]``.
        """
        return weights.rates * (cls.regulation(g, weights) - g)

    def forward(self, g: torch.Tensor) -> torch.Tensor:
        """Rate of change of expression ``g``, both of shape ``[n_cells, n_genes]``."""
        return self.velocity(g, self.weights())

    @torch.no_grad()
    def effects(self) -> torch.Tensor:
        r"""Effect of every gene on every other, :math:`\mathrm{ReLU}(\upsilon) \odot (U_\Sigma W_\Sigma + U_\Pi W_\Pi)`.

        Returns
        -------
        Tensor of shape ``[n_genes, n_genes]``: row regulates column. Zero where no path of weights is left.
        """
        inputs = torch.cat([effective_weight(self.sums), effective_weight(self.products)])
        weights = self.weights()
        return (weights.rates[:, None] * (weights.combine @ inputs)).T

    def weight_chains(
        self, prior: torch.Tensor | None = None, input_prior: torch.Tensor | None = None
    ) -> list[WeightChain]:
        r"""The two blocks as DASH prunes them (algorithm 1 of arXiv 2403.04805).

        Weights into the multiplicative block live in log space, so their importance is :math:`\exp(W_\Pi)`; weights to a
        gene count as much as its multiplier.

        Parameters
        ----------
        prior
            Of shape ``[n_genes, n_genes]``: row regulates column.
        input_prior
            Of shape ``[n_genes, n_genes]``: genes that act together.
        """

        def by_rate(weight: torch.Tensor) -> torch.Tensor:
            return weight.abs() * functional.relu(self.gene_multipliers)[:, None]

        prior = None if prior is None else prior.T
        return [
            WeightChain((self.sums, self.combine_sums), prior, input_prior, (torch.abs, by_rate)),
            WeightChain((self.products, self.combine_products), prior, input_prior, (torch.exp, by_rate)),
        ]


def integrate(
    dynamics: RegulatoryDynamics,
    start: torch.Tensor,
    duration: torch.Tensor,
    *,
    solver: str = "dopri5",
    tolerance: float = 1e-3,
    adjoint: bool = True,
    clamped: torch.Tensor | None = None,
) -> torch.Tensor:
    """Let cells run for a while, all in one call of the solver.

    Every cell's duration is scaled to 1, so that cells with different durations share the solver's steps.

    Parameters
    ----------
    dynamics
        The dynamics.
    start
        Expression of shape ``[n_cells, n_genes]``.
    duration
        Duration for each cell, of shape ``[n_cells]``.
    solver
        Name of a solver of torchdiffeq: ``"dopri5"``, ``"dopri8"``, ``"bosh3"``, ``"adaptive_heun"``, or one with a
        fixed number of steps of equal length: ``"rk4"`` (4), ``"midpoint"`` (8), ``"euler"`` (16).
    tolerance
        Relative tolerance of solvers with adaptive steps, in root mean square over cells and genes; the absolute one is
        a tenth of it.
    adjoint
        Whether gradients come from the adjoint equation, which takes constant memory, or from the solver's own steps.
    clamped
        Mask of the genes held at their start, of shape ``[n_genes]``.

    Returns
    -------
    Expression of shape ``[n_cells, n_genes]``.

    Raises
    ------
    RuntimeError
        The solver did not converge.
    """
    weights = dynamics.weights()
    scale = duration[:, None]
    if clamped is not None:
        scale = scale * ~clamped
    options = {"step_size": 1 / _FIXED_STEPS[solver]} if solver in _FIXED_STEPS else {"max_num_steps": _MAX_STEPS}
    arguments = {"rtol": tolerance, "atol": tolerance / 10, "method": solver, "options": options}
    if adjoint:
        arguments["adjoint_params"] = tuple(weights)
    try:
        path = (odeint_adjoint if adjoint else odeint)(
            lambda _, g: scale * dynamics.velocity(g, weights), start, start.new_tensor([0.0, 1.0]), **arguments
        )
    except AssertionError as error:  # torchdiffeq's own way to say that steps became too small or too many
        raise RuntimeError(_not_converged(solver, duration, str(error))) from error
    if not torch.isfinite(path[-1]).all():
        raise RuntimeError(_not_converged(solver, duration, "the solution is not finite"))
    return path[-1]


def _not_converged(solver: str, duration: torch.Tensor, reason: str) -> str:
    other = "dopri5" if solver in _FIXED_STEPS else "rk4"
    return (
        f"the solver {solver!r} did not converge over a duration of up to {float(duration.max()):g} "
        f"({reason.splitlines()[0][:80]}). Scale expression to between 0 and 1 and time to a few units between "
        "neighbouring points; if that is so, train again with a lower learning rate (plan_kwargs={'lr': ...}), or make "
        f"the model with another solver (solver={other!r}) or a larger tolerance."
    )
