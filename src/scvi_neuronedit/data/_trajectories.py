"""Observations along trajectories: their order, and the pairs of consecutive ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scvi_neuronedit.data._names import listed
from scvi_neuronedit.data._obs import check_obs_column

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def trajectories_in_order(adata: AnnData, time_key: str, trajectory_key: str | None) -> list[NDArray[np.intp]]:
    """Rows of every trajectory, sorted by time.

    Parameters
    ----------
    adata
        AnnData to look at; its rows may have any order.
    time_key
        Column of ``adata.obs`` with the time of each row.
    trajectory_key
        Column of ``adata.obs`` with the trajectory of each row; all rows are one trajectory if ``None``.

    Returns
    -------
    Positions of the rows, one array for each trajectory, in the order in which trajectories first appear.

    Raises
    ------
    ValueError
        A time is missing or infinite, or occurs twice in a trajectory, or a trajectory has a single row.
    """
    check_obs_column(adata, "time_key", time_key)
    check_obs_column(adata, "trajectory_key", trajectory_key)
    try:
        times = adata.obs[time_key].to_numpy(dtype=float)
    except (TypeError, ValueError):
        msg = f"time_key: adata.obs[{time_key!r}] must hold numbers; it is of dtype {adata.obs[time_key].dtype}."
        raise TypeError(msg) from None
    if not np.isfinite(times).all():
        msg = f"time_key: adata.obs[{time_key!r}] holds infinite values."
        raise ValueError(msg)
    names = ["all rows"] * adata.n_obs if trajectory_key is None else adata.obs[trajectory_key].astype(str)
    names = np.asarray(names, dtype=object)
    order = np.argsort(times, kind="stable")
    trajectories = {name: order[names[order] == name] for name in dict.fromkeys(names)}
    if short := [name for name, rows in trajectories.items() if len(rows) < 2]:
        msg = (
            f"{len(short)} of {len(trajectories)} trajectories have a single point, from which nothing can be learnt: "
            f"{listed(short)}; remove them, or check trajectory_key={trajectory_key!r}."
        )
        raise ValueError(msg)
    for name, rows in trajectories.items():
        repeated = times[rows[1:]][np.diff(times[rows]) == 0]
        if len(repeated):
            msg = (
                f"time_key: trajectory {name!r} has more than one row at time {repeated[0]:g}; average replicates, or "
                "give each a trajectory of its own in trajectory_key."
            )
            raise ValueError(msg)
    return list(trajectories.values())
