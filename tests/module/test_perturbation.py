import math

import numpy as np
import pytest
import torch
from scvi.distributions import NegativeBinomial
from torch.distributions import Normal, kl_divergence

from scvi_neuronedit.module import DOSAGE_KEY, PerturbationModule
from scvi_neuronedit.nn import DenseShift, PriorShift, SparseShift

N_GENES, N_LATENT, N_PERTURBATIONS = 6, 3, 4


def make(kind: str = "sams", likelihood: str = "nb", n_particles: int = 2, n_batch: int = 1) -> PerturbationModule:
    torch.manual_seed(0)
    shift, basal = {
        "sams": (SparseShift(N_PERTURBATIONS, N_LATENT, mask_probability=0.2, n_hidden=8), "correlated"),
        "mean field": (SparseShift(N_PERTURBATIONS, N_LATENT, mask_probability=0.2, correlated=False), "mean_field"),
        "cpa": (DenseShift(N_PERTURBATIONS, N_LATENT), "correlated"),
        "svae": (PriorShift(N_PERTURBATIONS, N_LATENT), "total"),
        "cvae": (None, "mean_field"),
    }[kind]
    return PerturbationModule(
        N_GENES,
        N_PERTURBATIONS,
        N_LATENT,
        shift,
        basal=basal,
        condition_on_dosage=kind == "cvae",
        likelihood=likelihood,
        n_hidden=8,
        n_layers=2,
        n_particles=n_particles,
        n_batch=n_batch,
    )


def cells(n_cells: int, likelihood: str = "nb") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.poisson(torch.full((n_cells, N_GENES), 3.0), generator=generator)
    x = x if likelihood == "nb" else x - 3.3
    dosage = torch.bernoulli(torch.full((n_cells, N_PERTURBATIONS), 0.4), generator=generator)
    return {"X": x, DOSAGE_KEY: dosage, "batch": torch.arange(n_cells)[:, None] % 2}


def without_noise(module: PerturbationModule) -> PerturbationModule:
    """All guides as good as deterministic, so that every draw gives the same ELBO."""
    with torch.no_grad():
        for shift in [module.shift] * (module.shift is not None):
            if hasattr(shift, "mask_logits"):
                shift.mask_logits.copy_(torch.tensor([50.0, -50.0, 50.0]).expand_as(shift.mask_logits))
            if hasattr(shift, "effect"):
                shift.effect.output.bias[N_LATENT:] = -20
                shift.effect.output.weight[N_LATENT:] = 0
            if hasattr(shift, "effect_raw_scale"):
                shift.effect_raw_scale.fill_(-20)
        module.encoder.output.bias[N_LATENT:] = -20
        module.encoder.output.weight[N_LATENT:] = 0
    return module


KINDS = ["sams", "mean field", "cpa", "svae", "cvae"]


@pytest.mark.parametrize("kind", KINDS)
def test_minibatches_average_to_the_full_data_elbo(kind, monkeypatch):
    # draws that differ from call to call would hide a wrong weight: take the noise out of the draws
    module = without_noise(make(kind))
    monkeypatch.setattr(torch, "randn", lambda *shape, **kwargs: torch.zeros(*shape, **kwargs))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    tensors, n_cells = cells(60), 60
    full = module(tensors, loss_kwargs={"n_obs": n_cells})[2]
    parts = [
        module({k: v[rows] for k, v in tensors.items()}, loss_kwargs={"n_obs": n_cells})[2]
        for rows in torch.randperm(n_cells).split(12)
    ]
    torch.testing.assert_close(torch.stack([part.loss for part in parts]).mean(), full.loss)
    local = (full.reconstruction_loss["reconstruction_loss"] + full.kl_local["kl_local"]).sum()
    torch.testing.assert_close(full.loss * n_cells, local + full.kl_global["kl_global"])
    if kind != "cvae":
        assert full.kl_global["kl_global"] > 1


@pytest.mark.parametrize("kind", ["sams", "cpa"])
def test_minibatches_of_any_size_are_unbiased_with_noise(kind):
    module = make(kind, n_particles=20)
    tensors = cells(40)
    with torch.no_grad():
        full = torch.stack([module(tensors, loss_kwargs={"n_obs": 40})[2].loss for _ in range(150)])
        small = []
        for _ in range(600):
            rows = torch.randperm(40)[:7]
            small.append(module({k: v[rows] for k, v in tensors.items()}, loss_kwargs={"n_obs": 40})[2].loss)
        small = torch.stack(small)
    error = math.sqrt(full.var() / len(full) + small.var() / len(small))
    assert abs(full.mean() - small.mean()) < 4 * error
    assert error < 0.02 * full.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_elbo_is_the_one_of_the_equations(kind):
    module = make(kind, n_particles=3, n_batch=2)
    tensors = cells(10)
    torch.manual_seed(3)
    q, _, output = module(tensors, loss_kwargs={"n_obs": 25})
    z = q["basal"] + torch.einsum("nt,ptk->pnk", tensors[DOSAGE_KEY], q["shifts"]) if kind != "cvae" else q["basal"]
    rate = torch.softmax(module.decode(z, tensors[DOSAGE_KEY], tensors["batch"]), dim=-1)
    library = tensors["X"].sum(1, keepdim=True)
    px = NegativeBinomial(mu=rate * library, theta=module.gene_parameter.exp())
    reconstruction = -px.log_prob(tensors["X"]).sum(-1).mean(0)
    kl = kl_divergence(Normal(q["mean"], q["scale"]), Normal(0.0, 1.0)).sum(-1)
    kl = kl.mean(0) if kl.ndim > 1 else kl
    torch.testing.assert_close(output.loss, (reconstruction + kl).mean() + q["kl_global"] / 25, rtol=1e-4, atol=1e-4)


def test_the_normal_likelihood_is_that_of_torch():
    module = make(likelihood="normal")
    with torch.no_grad():
        module.gene_parameter.normal_()
    x = cells(5, "normal")["X"]
    output = torch.randn(2, 5, N_GENES)
    expected = Normal(output, module.gene_sd()).log_prob(x).sum(-1)
    torch.testing.assert_close(module.log_likelihood(x, output, x.new_ones(5, 1)), expected)


def test_svae_puts_the_shift_into_the_prior():
    """KL(q(z | x) || N(shift, 1)) of Lopez et al. is the divergence of z less its shift from a standard normal."""
    module = make("svae")
    tensors = cells(10)
    q = module.inference(tensors["X"], tensors[DOSAGE_KEY], 1)
    z_mean, raw_scale = module.encoder(module.network_input(tensors["X"])).chunk(2, dim=-1)
    scale = torch.nn.functional.softplus(raw_scale) + 1e-3
    expected = kl_divergence(Normal(z_mean, scale), Normal(q["shift"][0], torch.ones(())))
    torch.testing.assert_close(kl_divergence(Normal(q["mean"][0], q["scale"]), Normal(0.0, 1.0)), expected)


@pytest.mark.parametrize("likelihood", ["nb", "normal"])
def test_draws_have_the_mean_and_variance_of_the_likelihood(likelihood):
    module = make(likelihood=likelihood)
    with torch.no_grad():
        module.gene_parameter.fill_(0.7)
    output, library = torch.randn(1, N_GENES), torch.tensor([[40.0]])
    with torch.no_grad():
        mean = module.mean(output, library)
        draws = module.draw(output.expand(100_000, -1), library)
    theta = math.exp(0.7)
    variance = mean + mean**2 / theta if likelihood == "nb" else (module.gene_sd() ** 2).expand_as(mean)
    torch.testing.assert_close(draws.mean(0, keepdim=True), mean, rtol=0.05, atol=0.02)
    torch.testing.assert_close(draws.var(0, keepdim=True), variance, rtol=0.1, atol=0.02)


def test_importance_weights_integrate_a_linear_model_exactly():
    """With a linear decoder the evidence is a Gaussian density, which the bound reaches with many draws."""
    module = make("cvae", likelihood="normal")
    weight, bias = torch.randn(N_GENES, N_LATENT) * 0.7, torch.randn(N_GENES)
    module.decode = lambda z, dosage, batch: z @ weight.T + bias
    tensors = cells(8, "normal")
    sd = module.gene_sd().detach()
    evidence = torch.distributions.MultivariateNormal(bias, weight @ weight.T + torch.diag(sd**2)).log_prob(
        tensors["X"]
    )
    precision = torch.eye(N_LATENT) + (weight.T / sd**2) @ weight
    mean = torch.linalg.solve(precision, (weight.T / sd**2) @ (tensors["X"] - bias).T).T
    sd_given_rest = precision.diagonal().rsqrt()

    def log_weights(mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        module.encode = lambda x, dosage, shift: (mean.expand(8, -1), scale.expand(8, -1))
        with torch.no_grad():
            return module.log_weights(tensors["X"], tensors[DOSAGE_KEY], None, 50_000)

    for guide in ((mean, sd_given_rest), (mean + 0.1, 1.5 * sd_given_rest)):
        weights = log_weights(*guide)
        bound = weights.logsumexp(0) - math.log(50_000)
        np.testing.assert_allclose(bound, evidence, atol=0.1)
        assert (weights.mean(0) < evidence).all()


def test_genes_that_do_not_vary_leave_the_input_finite():
    module = make()
    x = cells(4)["X"]
    x[:, 0] = 0
    assert torch.isfinite(module.network_input(x)).all()
    assert torch.isfinite(
        module.log_likelihood(torch.zeros(4, N_GENES), torch.zeros(4, N_GENES), torch.ones(4, 1))
    ).all()
