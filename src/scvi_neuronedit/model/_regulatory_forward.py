"""Running regulatory dynamics: reading starts and times, rolling out, writing layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scvi_neuronedit.data import MatrixReader, match_features, record_layer, trajectories_in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray


class RegulatoryForwardMixin:
    """Methods that check and read data, run the dynamics, and write what comes out."""

    def _setup_arg(self, name: str) -> Any:
        return self.registry["setup_args"][name]

    def _check_is_ready(self, adata: AnnData | None, *, needs_data: bool = True) -> None:
        if not self.is_trained_:
            msg = "the model is not trained; call train() first."
            raise RuntimeError(msg)
        if needs_data and adata is None and self.adata is None:
            msg = "the model was loaded without data; pass adata."
            raise ValueError(msg)

    def _expression(self, adata: AnnData) -> NDArray[np.float32]:
        """Expression of the model's genes, checked, of shape ``[n_rows, n_genes]``."""
        reader = MatrixReader(adata, self._setup_arg("layer"))
        values = reader(np.arange(adata.n_obs))[:, match_features(adata, self.var_names_)]
        if not np.isfinite(values).all():
            msg = f"{reader.name} holds NaN or infinite values."
            raise ValueError(msg)
        return values

    def _read(self, adata: AnnData) -> tuple[NDArray[np.float32], NDArray[np.float64], list[NDArray[np.intp]]]:
        """Expression, times, and the rows of every trajectory."""
        time_key = self._setup_arg("time_key")
        trajectories = trajectories_in_order(adata, time_key, self._setup_arg("trajectory_key"))
        return self._expression(adata), adata.obs[time_key].to_numpy(dtype=float), trajectories

    def _predict_data(
        self, values: NDArray[np.float32], times: NDArray[np.float64], trajectories: list[NDArray[np.intp]]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Rows of every trajectory, and what is predicted there from the first of them; all in one roll-out."""
        lengths = [len(rows) for rows in trajectories]
        padded = np.stack([np.pad(times[rows], (0, max(lengths) - len(rows)), mode="edge") for rows in trajectories])
        paths = self._roll_out(np.stack([values[rows[0]] for rows in trajectories]), padded)
        for rows, path in zip(trajectories, paths, strict=True):
            yield rows, path[: len(rows)]

    def _roll_out(
        self, start: NDArray[np.float32], times: NDArray[np.float64], clamped: Sequence[str] = ()
    ) -> NDArray[np.float32]:
        """Paths of shape ``[n_starts, n_times, n_genes]`` at ``times`` of shape ``[n_starts, n_times]``."""
        mask = torch.from_numpy(np.isin(self.var_names_, list(clamped))) if len(clamped) else None
        path = [torch.from_numpy(start)]
        for duration in np.diff(times, axis=1).T:
            path.append(self.module.step(path[-1], torch.from_numpy(duration.astype(np.float32)), clamped=mask).cpu())
        return torch.stack(path, dim=1).numpy()

    def _checked_starts(self, start: ArrayLike | pd.DataFrame | pd.Series) -> NDArray[np.float32]:
        if isinstance(start, pd.Series):
            start = start.to_frame().T
        if isinstance(start, pd.DataFrame):
            if missing := [gene for gene in self.var_names_ if gene not in start.columns]:
                msg = f"start lacks {len(missing)} of the model's {len(self.var_names_)} genes, such as {missing[0]!r}."
                raise ValueError(msg)
            start = start[self.var_names_].to_numpy()
        start = np.atleast_2d(np.asarray(start, dtype=np.float32))
        if start.ndim != 2 or start.shape[1] != len(self.var_names_):
            msg = f"start has shape {start.shape}; it needs {len(self.var_names_)} genes in its last dimension."
            raise ValueError(msg)
        if not np.isfinite(start).all():
            msg = "start holds NaN or infinite values."
            raise ValueError(msg)
        return start

    def _as_adata(self, values: NDArray[np.float32], times: NDArray[np.float64]) -> AnnData:
        """Paths of shape ``[n_starts, n_times, n_genes]``, one after the other."""
        names = [f"start_{i + 1}" for i in range(len(values))]
        obs = pd.DataFrame(
            {"trajectory": pd.Categorical(np.repeat(names, len(times))), "time": np.tile(times, len(values))},
            index=[f"{name}_{i + 1}" for name in names for i in range(len(times))],
        )
        return AnnData(values.reshape(-1, values.shape[-1]), obs=obs, var=pd.DataFrame(index=self.var_names_))

    def _write(
        self, adata: AnnData, layer: str, values: NDArray, record: dict[str, Any], others: float | None = None
    ) -> None:
        """Write values of the model's genes into a layer of all genes, with a record."""
        matrix = MatrixReader(adata, self._setup_arg("layer"))(np.arange(adata.n_obs))
        if others is not None:
            matrix[:] = others
        matrix[:, match_features(adata, self.var_names_)] = values
        adata.layers[layer] = matrix
        record_layer(adata, layer, {**record, "layer": self._setup_arg("layer") or "X", **self.module.solving})


def checked_times(times: Sequence[float] | None) -> NDArray[np.float64]:
    """Times to predict from a start, checked."""
    times = np.asarray([] if times is None else times, dtype=float)
    if times.ndim != 1 or len(times) < 2 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        msg = f"times={times.tolist()}; with start give at least two times, each larger than the one before."
        raise ValueError(msg)
    return times
