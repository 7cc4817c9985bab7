"""scvi-tools module of regulatory dynamics: one step along trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch.nn import functional

from scvi_neuronedit.nn import KeepsMasks, RegulatoryDynamics, integrate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scvi_neuronedit.nn import WeightChain

_MULTIPLIER_RATE = 5  # the gene multipliers' learning rate, in units of that of all others
_N_PRIOR_POINTS = 64


class RegulatoryODEModule(KeepsMasks, BaseModuleClass):
    r"""Regulatory dynamics trained to carry each point of a trajectory to the next.

    The loss is :math:`(1 - \omega)\,\mathrm{MSE}(g(t_{i+1}), \hat g(t_{i+1} | g(t_i)))`, plus, with a prior :math:`A` (row
    regulates column), :math:`\omega\,\mathrm{MSE}(A^T x, c(x))` at random points :math:`x`, uniform between -0.5 and
    0.5 (appendix B.10 of arXiv 2403.04805). Without gradients it is the first term alone.

    Parameters
    ----------
    n_genes, n_hidden
        See :class:`~scvi_neuronedit.nn.RegulatoryDynamics`.
    prior
        Of shape ``[n_genes, n_genes]``: row regulates column, with signs. ``None`` if nothing is known.
    input_prior
        Of shape ``[n_genes, n_genes]``: genes that act together. :math:`|A| |A|^T` if ``None``.
    prior_loss_weight
        :math:`\omega`, between 0 and 1.
    solver, tolerance, adjoint
        See :func:`~scvi_neuronedit.nn.integrate`.
    """

    def __init__(
        self,
        n_genes: int,
        n_hidden: int = 40,
        prior: NDArray | None = None,
        input_prior: NDArray | None = None,
        prior_loss_weight: float = 0.0,
        solver: str = "dopri5",
        tolerance: float = 1e-3,
        adjoint: bool = True,
    ) -> None:
        super().__init__()
        self.dynamics = RegulatoryDynamics(n_genes, n_hidden)
        self.prior_loss_weight = prior_loss_weight
        self.solving = {"solver": solver, "tolerance": tolerance, "adjoint": adjoint}
        prior = None if prior is None else torch.as_tensor(prior, dtype=torch.float32)
        if input_prior is not None:
            input_prior = torch.as_tensor(input_prior, dtype=torch.float32)
        elif prior is not None:
            input_prior = prior.abs() @ prior.abs().T
        # the model is given them anew when it is loaded
        self.register_buffer("prior", prior, persistent=False)
        self.register_buffer("input_prior", input_prior, persistent=False)

    def weight_chains(self) -> list[WeightChain]:
        """What :class:`~scvi_neuronedit.train.DASHPruning` prunes: both blocks, guided by the prior."""
        return self.dynamics.weight_chains(self.prior, self.input_prior)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Parameters with their learning rates: gene multipliers learn five times as fast as all others."""
        multipliers = self.dynamics.gene_multipliers
        others = [parameter for parameter in self.parameters() if parameter is not multipliers]
        return [{"params": others, "lr": lr}, {"params": [multipliers], "lr": _MULTIPLIER_RATE * lr}]

    def _get_inference_input(self, tensors: dict[str, torch.Tensor], **kwargs) -> dict[str, torch.Tensor]:
        return {"start": tensors["start"], "duration": tensors["duration"]}

    def inference(self, start: torch.Tensor, duration: torch.Tensor) -> dict[str, torch.Tensor]:
        """Carry every point to the next: ``end`` of shape ``[n_pairs, n_genes]``."""
        return {"end": integrate(self.dynamics, start, duration, **self.solving)}

    def _get_generative_input(self, tensors: dict, inference_outputs: dict, **kwargs) -> dict:
        return {}

    def generative(self) -> dict:
        """Nothing: the dynamics are deterministic."""
        return {}

    def loss(self, tensors: dict, inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Mean squared error of one step, and in training the prior's part."""
        errors = functional.mse_loss(inference_outputs["end"], tensors["end"], reduction="none").mean(dim=-1)
        loss = errors.mean()
        if self.training and self.prior_loss_weight > 0:
            loss = (1 - self.prior_loss_weight) * loss + self.prior_loss_weight * self.prior_loss()
        return LossOutput(loss=loss, reconstruction_loss=errors)

    def prior_loss(self) -> torch.Tensor:
        """Mean squared difference of regulation and the prior's linear effects at random points."""
        points = torch.rand(_N_PRIOR_POINTS, len(self.prior), device=self.prior.device) - 0.5
        regulation = self.dynamics.regulation(points, self.dynamics.weights())
        return functional.mse_loss(regulation, points @ self.prior)

    @torch.inference_mode()
    @auto_move_data
    def step(self, start: torch.Tensor, duration: torch.Tensor, clamped: torch.Tensor | None = None) -> torch.Tensor:
        """Let cells run; arguments and result as of :func:`~scvi_neuronedit.nn.integrate`."""
        return integrate(self.dynamics, start, duration, clamped=clamped, **{**self.solving, "adjoint": False})

    @torch.inference_mode()
    @auto_move_data
    def velocity(self, g: torch.Tensor) -> torch.Tensor:
        """Rate of change of expression ``g``, both of shape ``[n_cells, n_genes]``."""
        return self.dynamics(g)
