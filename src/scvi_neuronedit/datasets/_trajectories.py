"""Trajectories of expression: simulated, corrupted with noise, read from files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.integrate import solve_ivp
from scipy.stats import truncnorm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from scvi_neuronedit.datasets._ode_system import ODESystem


def simulate_trajectories(
    system: ODESystem,
    n_trajectories: int = 160,
    times: Sequence[float] = (0, 2, 3, 7, 9),
    *,
    noise: float = 0.0,
    input_means: Sequence[float] | None = None,
    random_state: int = 0,
) -> AnnData:
    """Let a regulatory network run from random starts (appendix B.1 of arXiv 2403.04805).

    A gene that stays constant has a mean drawn from Beta(10, 10) and in each trajectory a level around it: normal,
    truncated to between 0 and 1, with a standard deviation of a third of the mean's distance to the nearer of 0 and 1
    times a Beta(15, 15), at least 0.01. All others start at a Beta(2, 2) plus a shift of the gene drawn evenly between
    -0.25 and 0.25, clipped to between 0 and 1.

    Parameters
    ----------
    system
        The network.
    n_trajectories
        Number of trajectories.
    times
        Times at which they are observed, increasing; the first is where they start.
    noise
        Standard deviation of normal noise added to all values, as a share of the mean expression, 0.5: 0.05 is the
        paper's "5 %".
    input_means
        Means of the genes that stay constant, in the order of the system. Drawn if ``None``.
    random_state
        Seed.

    Returns
    -------
    AnnData with a row for each trajectory and time: noisy expression in ``X``, the truth in
    ``layers["noise_free"]``, ``obs["trajectory"]``, ``obs["time"]``, ``var["is_input"]``, and the true effects in
    ``varp["network"]`` (row regulates column, sign of the effect).
    """
    times = np.asarray(times, dtype=float)
    if len(times) < 2 or (np.diff(times) <= 0).any():
        msg = f"times={times.tolist()}; give at least two, each larger than the one before."
        raise ValueError(msg)
    if noise < 0:
        msg = f"noise={noise}; it must be at least 0."
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    inputs, n_genes = system.is_input, len(system.genes)
    means = rng.beta(10, 10, inputs.sum()) if input_means is None else np.asarray(input_means, dtype=float)
    if means.shape != (inputs.sum(),):
        msg = f"input_means has shape {means.shape}; the system has {inputs.sum()} input genes."
        raise ValueError(msg)

    start = np.empty((n_genes, n_trajectories))
    sd = np.maximum(rng.beta(15, 15, len(means)) * np.minimum(means, 1 - means) / 3, 0.01)
    low, high = (((bound - means) / sd)[:, None] for bound in (0, 1))
    uniform = rng.random((len(means), n_trajectories))
    start[inputs] = truncnorm.ppf(uniform, low, high, loc=means[:, None], scale=sd[:, None])
    shift = rng.uniform(-0.25, 0.25, ((~inputs).sum(), 1))
    start[~inputs] = np.clip(rng.beta(2, 2, ((~inputs).sum(), n_trajectories)) + shift, 0, 1)

    values = solve(system, start, times).transpose(2, 0, 1).reshape(-1, n_genes)
    # rows go from one trajectory to the next
    noisy = values + rng.normal(0, 0.5 * noise, values.shape) if noise else values.copy()
    adata = _trajectory_adata(noisy, np.tile(times, n_trajectories), len(times), system.genes)
    adata.layers["noise_free"] = values.astype(np.float32)
    adata.var["is_input"] = inputs
    adata.varp["network"] = system.network.to_numpy()
    return adata


def solve(system: ODESystem, start: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve the equations of a network, all trajectories at once.

    Parameters
    ----------
    system
        The network.
    start
        Levels at ``times[0]``, of shape ``[n_genes, n_trajectories]``.
    times
        Increasing times.

    Returns
    -------
    Levels of shape ``[n_times, n_genes, n_trajectories]``.
    """
    shape = start.shape
    solution = solve_ivp(
        lambda _, y: system.velocity(y.reshape(shape)).ravel(),
        (times[0], times[-1]),
        start.ravel(),
        method="DOP853",
        t_eval=times,
        rtol=1e-8,
        atol=1e-10,
    )
    if not solution.success:
        msg = f"the equations could not be solved from {times[0]:g} to {times[-1]:g}: {solution.message}"
        raise RuntimeError(msg)
    return solution.y.T.reshape(len(times), *shape)


def read_trajectories(path: str | PathLike, genes: Sequence[str]) -> AnnData:
    """Read trajectories in the form of PHOENIX.

    The first line holds the numbers of genes and of trajectories. Then, for each trajectory, a line of values over time
    for each gene, and a line of times.

    Parameters
    ----------
    path
        File to read, compressed or not.
    genes
        Names of the genes, in the order of the file.

    Returns
    -------
    AnnData with a row for each trajectory and time: expression in ``X``, ``obs["trajectory"]``, ``obs["time"]``.
    """
    table = pd.read_csv(path, header=None).to_numpy(dtype=float)
    n_genes, n_trajectories = (int(number) for number in table[0, :2])
    if n_genes != len(genes):
        msg = f"{path} holds {n_genes} genes, but {len(genes)} names are given as genes."
        raise ValueError(msg)
    if len(table) != 1 + n_trajectories * (n_genes + 1):
        msg = (
            f"{path} has {len(table)} lines; {n_trajectories} trajectories of {n_genes} genes and a line of times need "
        )
        msg += f"{1 + n_trajectories * (n_genes + 1)}."
        raise ValueError(msg)
    blocks = table[1:].reshape(n_trajectories, n_genes + 1, -1)
    lengths = np.isfinite(blocks[:, -1]).sum(axis=1)  # shorter trajectories are filled up with empty fields
    values = [block[:-1, :length].T for block, length in zip(blocks, lengths, strict=True)]
    times = [block[-1, :length] for block, length in zip(blocks, lengths, strict=True)]
    return _trajectory_adata(np.concatenate(values), np.concatenate(times), lengths, genes)


def corrupt_prior(prior: pd.DataFrame, share: float, *, random_state: int = 0) -> pd.DataFrame:
    """Move a share of the edges of a prior to places where it had none, signs kept.

    Parameters
    ----------
    prior
        Effects of shape ``[n_genes, n_genes]``: row regulates column; zero where none is known.
    share
        Share of the edges that is moved.
    random_state
        Seed.

    Returns
    -------
    The corrupted prior, with as many edges.
    """
    if not 0 <= share <= 1:
        msg = f"share={share}; it must lie between 0 and 1."
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    flat = prior.to_numpy().ravel().copy()
    edges, free = np.flatnonzero(flat), np.flatnonzero(flat == 0)
    moved = rng.choice(edges, round(share * len(edges)), replace=False)
    signs = flat[moved]
    flat[moved] = 0
    flat[rng.choice(free, len(moved), replace=False)] = signs
    return pd.DataFrame(flat.reshape(prior.shape), index=prior.index, columns=prior.columns)


def _trajectory_adata(
    values: NDArray, times: NDArray, lengths: int | NDArray[np.intp], genes: Sequence[str]
) -> AnnData:
    """Rows of one trajectory after the other."""
    lengths = np.full(len(times) // lengths, lengths) if np.ndim(lengths) == 0 else lengths
    names = [f"trajectory_{i + 1}" for i in range(len(lengths))]
    codes = np.repeat(np.arange(len(names)), lengths)
    points = np.concatenate([np.arange(length) for length in lengths])
    obs = pd.DataFrame(
        {"trajectory": pd.Categorical.from_codes(codes, names), "time": times},
        index=[f"{names[code]}_{point + 1}" for code, point in zip(codes, points, strict=True)],
    )
    return AnnData(values.astype(np.float32), obs=obs, var=pd.DataFrame(index=list(map(str, genes))))
