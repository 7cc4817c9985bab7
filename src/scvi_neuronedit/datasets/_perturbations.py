"""Simulated perturbation screens with known latent mechanisms, singles and combinations."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_NOISE_SHARE = 0.2
_N_HIDDEN = 50
_SLOPE = 0.01
_CONTROLS_PER_PERTURBATION = 5


def simulate_mechanism_shifts(
    n_perturbations: int = 100,
    n_latent: int = 15,
    n_genes: int = 100,
    n_cells: tuple[int, int, int] = (500, 100, 100),
    *,
    likelihood: Literal["normal", "nb"] = "normal",
    mask_probability: float = 2 / 15,
    random_state: int = 0,
) -> AnnData:
    """Perturbations that shift few of the latent variables of a random network.

    The simulation of Bereket & Karaletsos (NeurIPS 2023): masks are Bernoulli, effects have a random sign and absolute
    values of about 5 (standard deviation 0.5), basal latent variables are standard normal. The decoder is a random perceptron of four
    layers with 50 hidden units, leaky ReLUs and orthogonal weights, its outputs scaled to unit standard deviation.

    Parameters
    ----------
    n_perturbations, n_latent, n_genes
        Number of perturbations, latent variables and genes.
    n_cells
        Training, validation and test cells of each perturbation, and of the control.
    likelihood
        ``"normal"``: Gaussian noise that takes 20 % of each gene's variance. ``"nb"``: negative binomial counts, whose
        rates are the library size (log-normal, median 3,000) times a softmax over genes of level plus decoder output.
    mask_probability
        Probability that a perturbation shifts a latent variable.
    random_state
        Seed.

    Returns
    -------
    AnnData with values or counts in ``X``, ``obs["perturbation"]`` (``"ctrl"``, ``"P1"``, ...), ``obs["split"]`` (``"train"``,
    ``"val"``, ``"test"``), and the truth: ``layers["mean"]`` without noise, ``obsm["basal"]``, ``uns["mask"]`` and
    ``uns["effect"]`` of shape ``[n_perturbations, n_latent]``.
    """
    rng = np.random.default_rng(random_state)
    mask, effect = _masks_and_effects(rng, n_perturbations, n_latent, mask_probability)
    code = np.repeat(np.arange(n_perturbations + 1), sum(n_cells))  # 0 is the control
    dosage = np.vstack([np.zeros(n_perturbations), np.eye(n_perturbations)])
    labels = ["ctrl"] + [f"P{t + 1}" for t in range(n_perturbations)]
    basal = rng.normal(size=(len(code), n_latent))
    decoder = _random_network(rng, n_latent, n_genes)
    output = decoder(basal + (dosage @ (mask * effect))[code])
    adata = _measure(rng, output / output.std(axis=0), likelihood)
    adata.obs["perturbation"] = pd.Categorical.from_codes(code, labels)
    adata.obs["split"] = pd.Categorical(np.tile(np.repeat(["train", "val", "test"], n_cells), n_perturbations + 1))
    adata.obsm["basal"] = basal.astype(np.float32)
    adata.uns |= {"mask": mask, "effect": effect}
    return adata


def simulate_combinations(
    n_perturbations: int = 12,
    n_doubles: int = 40,
    n_latent: int = 10,
    n_genes: int = 200,
    n_cells: int = 100,
    *,
    interaction: float = 0.0,
    held_out: float = 0.5,
    likelihood: Literal["normal", "nb"] = "nb",
    random_state: int = 0,
) -> AnnData:
    r"""Single and double perturbations, some of the doubles held out.

    Perturbations add up in a latent space, :math:`z = z^b + u_A + u_B`. Expression (``"normal"``) or log-rates (``"nb"``) are
    :math:`W z + \lambda g(z)`: a linear part, in which doubles are additive, and ``interaction`` :math:`\lambda` times a saturating
    part :math:`g(z) = V \tanh(U z)`, both scaled to unit standard deviation over cells and genes. So an interaction depends
    on the mechanisms that two perturbations act on, and can be learnt from other perturbations with these mechanisms.

    Parameters
    ----------
    n_perturbations, n_doubles
        Number of single perturbations, and of pairs of them.
    n_latent, n_genes
        Number of latent variables and of genes.
    n_cells
        Cells of each perturbation and pair; five times as many control cells.
    interaction
        Weight of the part in which perturbations interact.
    held_out
        Share of the doubles marked as ``"test"``.
    likelihood
        As for :func:`simulate_mechanism_shifts`.
    random_state
        Seed.

    Returns
    -------
    AnnData as of :func:`simulate_mechanism_shifts`, with labels such as ``"P1+P2"`` and ``obs["split"]``, ``"test"`` for the
    held-out doubles and ``"train"`` for all else. ``uns["truth"]`` has the expected values of each label (rows, in the order of
    the categories of ``obs["perturbation"]``) over its cells; for counts, of log1p of 10,000 times the shares.
    """
    pairs = list(combinations(range(n_perturbations), 2))
    if not 0 <= n_doubles <= len(pairs):
        msg = f"n_doubles={n_doubles}; {n_perturbations} perturbations make 0 to {len(pairs)} pairs."
        raise ValueError(msg)
    if not 0 <= held_out <= 1:
        msg = f"held_out={held_out}; it must lie between 0 and 1."
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    mask = np.zeros((n_perturbations, n_latent), dtype=bool)
    for row in mask:
        row[rng.choice(n_latent, 2, replace=False)] = True
    effect = rng.choice([-1, 1], mask.shape) * rng.normal(2, 0.3, mask.shape)

    chosen = [pairs[i] for i in np.sort(rng.choice(len(pairs), n_doubles, replace=False))]
    names = [f"P{t + 1}" for t in range(n_perturbations)]
    labels = ["ctrl", *names, *(f"{names[a]}+{names[b]}" for a, b in chosen)]
    dosage = np.zeros((len(labels), n_perturbations))
    dosage[np.arange(n_perturbations) + 1, np.arange(n_perturbations)] = 1
    for row, pair in zip(dosage[n_perturbations + 1 :], chosen, strict=True):
        row[list(pair)] = 1
    sizes = np.full(len(labels), n_cells)
    sizes[0] *= _CONTROLS_PER_PERTURBATION
    code = np.repeat(np.arange(len(labels)), sizes)

    basal = rng.normal(0, 0.5, (len(code), n_latent))
    z = basal + (dosage @ (mask * effect))[code]
    linear = z @ rng.normal(size=(n_latent, n_genes))
    saturating = np.tanh(0.7 * z @ rng.normal(size=(n_latent, _N_HIDDEN))) @ rng.normal(size=(_N_HIDDEN, n_genes))
    output = linear / linear.std() + interaction * saturating / saturating.std()
    adata = _measure(rng, output if likelihood == "normal" else 0.5 * output, likelihood)

    n_test = round(held_out * n_doubles)
    test = n_perturbations + 1 + rng.choice(n_doubles, n_test, replace=False)
    adata.obs["perturbation"] = pd.Categorical.from_codes(code, labels)
    adata.obs["split"] = pd.Categorical(np.where(np.isin(code, test), "test", "train"), ["train", "test"])
    adata.obsm["basal"] = basal.astype(np.float32)
    mean = adata.layers["mean"]
    if likelihood == "nb":
        mean = np.log1p(1e4 * mean / mean.sum(axis=1, keepdims=True))
    truth = np.stack([mean[code == k].mean(axis=0) for k in range(len(labels))])
    adata.uns |= {"mask": mask, "effect": effect, "truth": truth}
    return adata


def _masks_and_effects(
    rng: np.random.Generator, n_perturbations: int, n_latent: int, mask_probability: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    mask = rng.random((n_perturbations, n_latent)) < mask_probability
    return mask, rng.choice([-1, 1], mask.shape) * rng.normal(5, 0.5, mask.shape)


def _random_network(rng: np.random.Generator, n_input: int, n_output: int) -> Callable[[NDArray], NDArray]:
    """Perceptron with four layers of orthogonal weights."""
    widths = [n_input, *[_N_HIDDEN] * 3, n_output]
    weights = [_orthogonal(rng, *shape) for shape in zip(widths[:-1], widths[1:], strict=True)]

    def network(x: NDArray) -> NDArray:
        for weight in weights[:-1]:
            x = x @ weight
            x = np.where(x > 0, x, _SLOPE * x)
        return x @ weights[-1]

    return network


def _orthogonal(rng: np.random.Generator, n_input: int, n_output: int) -> NDArray[np.float64]:
    """Random matrix with orthonormal rows or columns."""
    q, r = np.linalg.qr(rng.normal(size=(max(n_input, n_output), min(n_input, n_output))))
    q = q * np.sign(np.diag(r))
    return q if n_input >= n_output else q.T


def _measure(rng: np.random.Generator, output: NDArray, likelihood: str) -> AnnData:
    """Cells with noise around decoder outputs of unit standard deviation."""
    n_cells, n_genes = output.shape
    if likelihood == "normal":
        mean = np.sqrt(1 - _NOISE_SHARE) * output
        x = (mean + np.sqrt(_NOISE_SHARE) * rng.normal(size=output.shape)).astype(np.float32)
    elif likelihood == "nb":
        log_rate = rng.normal(0, 1, n_genes) + output
        rate = np.exp(log_rate - log_rate.max(axis=1, keepdims=True))
        mean = rng.lognormal(np.log(3000), 0.35, (n_cells, 1)) * rate / rate.sum(axis=1, keepdims=True)
        theta = rng.lognormal(1.0, 0.5, n_genes)
        x = sparse.csr_matrix(rng.negative_binomial(theta, theta / (theta + mean)).astype(np.float32))
    else:
        msg = f"likelihood={likelihood!r}; it must be 'normal' or 'nb'."
        raise ValueError(msg)
    obs = pd.DataFrame(index=[f"cell_{i + 1}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"gene_{j + 1}" for j in range(n_genes)])
    return AnnData(x, obs=obs, var=var, layers={"mean": mean.astype(np.float32)})
