"""What models of perturbations predict: cells, treatment effects, samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scvi_neuronedit.data import (
    EFFECT_METHODS,
    MatrixReader,
    assemble,
    check_layer_is_free,
    describe_selection,
    match_features,
    record_layer,
    select_cells,
    transform_for_effect,
    unknown_name,
)
from scvi_neuronedit.edit import CellDraws, carry_counts
from scvi_neuronedit.model._random import seeded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from scvi_neuronedit.data import Perturbation, Selection

_N_SHIFT_DRAWS = 20
_BASAL = ("prior", "posterior")


class PerturbationPredictionMixin:
    """Methods that predict cells under perturbations."""

    def predict_perturbation(
        self,
        perturbation: Perturbation,
        adata: AnnData | None = None,
        query: Selection | None = None,
        layer_added: str | None = None,
        *,
        keep_residual: bool = True,
        n_samples: int = 10,
        overwrite: bool = False,
        random_state: int = 0,
        batch_size: int | None = None,
        silent: bool = True,
    ) -> AnnData | None:
        """Predict cells as they would be under a perturbation, or a combination, seen or not.

        The basal latent variables of each query cell are inferred, its own dosages are replaced by those asked for, and
        the result is decoded at the cell's own library size and batch.

        Parameters
        ----------
        perturbation
            A label (``"A"``, ``"A+B"``), names that act together (``["A", "B"]``), or dosages (``{"A": 0.5}``).
        adata
            AnnData with the model's features, in any order, and the registered labels or dosages; need not be registered
            itself. The model's own if ``None``.
        query
            The cells. All control cells if ``None``.
        layer_added
            Write the prediction into this layer of ``adata``, with a record in ``adata.uns["neuronedit"]``. If ``None``, return
            a new AnnData.
        keep_residual
            Whether each cell keeps what the model does not explain of it: with the normal likelihood the result
            is ``x + D(predicted) - D(inferred)``; each count keeps its quantile. Without, the result is the decoded mean.
        n_samples
            Number of posterior draws whose decoded means are averaged.
        overwrite
            Whether an existing layer may be replaced.
        random_state
            Seed of all draws.
        batch_size
            Number of cells in a minibatch. ``scvi.settings.batch_size`` if ``None``.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        Without ``layer_added`` an AnnData of the query cells and the model's features, the prediction in ``X``, the
        obs column of the perturbations, where one is registered, set to the new label. With it ``None``;
        ``adata.layers[layer_added]`` then holds all cells, those outside the query as they were. On the scale of the
        registered layer.

        Raises
        ------
        ValueError
            A perturbation was never seen, a dosage is negative or not finite, or there is no query cell.
        """
        adata = self._checked_adata(adata)
        dosage = self._code.dosage(perturbation)
        label = self._code.label(perturbation)
        if layer_added is not None:
            check_layer_is_free(adata, layer_added, overwrite=overwrite)
        rows = self._query_rows(adata, query)
        predicted = self._predicted_minibatches(
            dosage, adata, rows, keep_residual, n_samples, random_state, batch_size, silent
        )
        reader = MatrixReader(adata, self._setup_arg("layer"))
        if layer_added is None:
            values = assemble(reader, rows, predicted, whole_layer=False, keep_sparse=False)
            columns = match_features(adata, self.var_names_)
            return self._as_anndata(values[:, columns], adata.obs.iloc[rows], label)
        keep_sparse = reader.is_sparse and keep_residual and self.module.likelihood == "nb"
        matrix = assemble(reader, rows, predicted, whole_layer=True, keep_sparse=keep_sparse)
        record = {
            "model": self.fingerprint,
            "model_class": type(self).__name__,
            "layer": self._setup_arg("layer") or "X",
            "likelihood": self.module.likelihood,
            "perturbation": label,
            "query": "control cells" if query is None else describe_selection(query),
            "n_query": len(rows),
            "keep_residual": keep_residual,
            "n_samples": n_samples,
            "random_state": random_state,
        }
        adata.layers[layer_added] = matrix
        record_layer(adata, layer_added, record)
        return None

    def get_average_treatment_effect(
        self,
        perturbations: Sequence[Perturbation] | None = None,
        method: Literal["mean", "perturbseq"] = "mean",
        *,
        adata: AnnData | None = None,
        basal: Literal["prior", "posterior"] = "prior",
        n_samples: int = 2000,
        random_state: int = 0,
    ) -> pd.DataFrame:
        r"""Average treatment effects, :math:`E[x_g \mid do(d)] - E[x_g \mid do(0)]`.

        Both arms share basal latent variables, library sizes and batches; library sizes and batches are those of control
        cells, drawn at random.

        Parameters
        ----------
        perturbations
            Perturbations or combinations, seen or not. All that the model has if ``None``.
        method
            ``"mean"``: difference of expected values, on the scale of the registered layer. ``"perturbseq"``, for counts:
            difference of the means of ``log2(x + 1)`` of sampled profiles scaled to 10,000 counts.
        adata
            AnnData that holds the control cells. The model's own if ``None``.
        basal
            Whether the basal latent variables are drawn from their prior, or from the posterior of control cells.
        n_samples
            Number of draws.
        random_state
            Seed of the draws.

        Returns
        -------
        A row for each perturbation, a column for each of the model's features.
        """
        adata = self._checked_adata(adata)
        if method not in EFFECT_METHODS:
            raise ValueError(unknown_name("method", method, "the choices", EFFECT_METHODS))
        if method == "perturbseq" and self.module.likelihood != "nb":
            msg = "method='perturbseq' is for counts, but the model has likelihood='normal'; pass method='mean'."
            raise ValueError(msg)
        if isinstance(perturbations, str | Mapping):
            perturbations = [perturbations]
        perturbations = list(self.perturbations if perturbations is None else perturbations)
        dosages = [self._code.dosage(perturbation) for perturbation in perturbations]
        with torch.inference_mode(), seeded(random_state):
            z, shifts, library, batch = self._draw_control_cells(adata, basal, n_samples, random_state)

            def arm(dosage: NDArray) -> NDArray[np.float64]:
                output = self._decode_dosage(z, shifts, dosage, batch)
                if method == "mean":
                    x = self.module.mean(output, library)
                else:
                    x = self.module.draw(output, library)
                return transform_for_effect(x.flatten(0, 1).cpu().numpy(), method).mean(axis=0, dtype=np.float64)

            control = arm(np.zeros(len(self.perturbations), dtype=np.float32))
            effects = [arm(dosage) - control for dosage in dosages]
        index = [self._code.label(perturbation) for perturbation in perturbations]
        return pd.DataFrame(np.reshape(effects, (len(index), -1)), index=index, columns=self.var_names_)

    def sample(
        self,
        perturbation: Perturbation,
        n_cells: int = 1000,
        *,
        adata: AnnData | None = None,
        basal: Literal["prior", "posterior"] = "prior",
        random_state: int = 0,
    ) -> AnnData:
        """Draw cells from the model.

        Library sizes and batches are those of control cells, drawn at random.

        Parameters
        ----------
        perturbation
            A perturbation or combination, seen or not.
        n_cells
            Number of cells.
        adata
            AnnData that holds the control cells. The model's own if ``None``.
        basal
            As for :meth:`get_average_treatment_effect`.
        random_state
            Seed of the draws.

        Returns
        -------
        AnnData of ``n_cells`` cells and the model's features: values or counts in ``X``, the basal latent variables
        in ``obsm["basal"]``, the label in the registered obs column.
        """
        adata = self._checked_adata(adata)
        dosage = self._code.dosage(perturbation)
        with torch.inference_mode(), seeded(random_state):
            z, shifts, library, batch = self._draw_control_cells(adata, basal, n_cells, random_state)
            x = self.module.draw(self._decode_dosage(z, shifts, dosage, batch), library)
        # as many cells as draws of the shifts times cells for each, so maybe a few too many
        x, z = (value.flatten(0, 1)[:n_cells].cpu().numpy() for value in (x, z))
        obs = pd.DataFrame(index=[f"sample_{i + 1}" for i in range(n_cells)])
        sampled = self._as_anndata(x, obs, self._code.label(perturbation))
        sampled.obsm["basal"] = z
        return sampled

    def _query_rows(self, adata: AnnData, query: Selection | None) -> NDArray[np.intp]:
        if query is None:
            return self._control_rows(adata)
        mask = select_cells(adata, query, argument="query", condition_key=self._setup_arg("perturbation_key"))
        return np.flatnonzero(mask)

    def _control_rows(self, adata: AnnData) -> NDArray[np.intp]:
        rows = np.flatnonzero(self._dosages(adata).getnnz(axis=1) == 0)
        if not len(rows):
            msg = "adata holds no control cell; name the cells to start from with query, or pass an adata that holds some."
            raise ValueError(msg)
        return rows

    def _predicted_minibatches(
        self,
        dosage: NDArray[np.float32],
        adata: AnnData,
        rows: NDArray[np.intp],
        keep_residual: bool,
        n_samples: int,
        random_state: int,
        batch_size: int | None,
        silent: bool,
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Where among ``rows``, and the predicted rows of the layer, minibatch by minibatch."""
        module, draws = self.module, CellDraws(random_state)
        columns = match_features(adata, self.var_names_)
        counts = module.likelihood == "nb"
        for i, minibatch in enumerate(self._minibatches(adata, rows, batch_size, silent=silent)):
            where, values, x, own_dosage, batch = minibatch
            with torch.inference_mode(), seeded(random_state + i):
                q = module.inference(x, own_dosage, n_samples)
                before, after = (
                    module.mean(output, q["library"]).mean(0).cpu().numpy()
                    for output in (
                        module.decode(q["basal"] + q["shift"], own_dosage, batch),
                        self._decode_dosage(q["basal"], q["shifts"], dosage, batch),
                    )
                )
            if not keep_residual:
                values[:, columns] = after
            elif counts:
                own = x.cpu().numpy()
                values[:, columns] = carry_counts(own, before, after, draws(own)[0], module.inverse_dispersion())
            else:
                values[:, columns] += after - before
            yield where, values

    def _decode_dosage(
        self, basal: torch.Tensor, shifts: torch.Tensor | None, dosage: NDArray[np.float32], batch: torch.Tensor | None
    ) -> torch.Tensor:
        """Decoder output of basal latent variables ``[n_particles, n_cells, n_latent]`` under the same dosages for all."""
        dosage = torch.from_numpy(dosage)[None].to(basal.device)
        return self.module.decode(basal + self.module.total_shift(dosage, shifts), dosage, batch)

    def _draw_control_cells(
        self, adata: AnnData, basal: str, n_samples: int, random_state: int
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """Basal latent variables, shifts, library sizes and batches of at least ``n_samples`` control cells.

        All but the shifts have the leading dimensions ``[n_draws of the shifts, n_cells for each]``.
        """
        if basal not in _BASAL:
            raise ValueError(unknown_name("basal", basal, "the choices", _BASAL))
        if n_samples < 1:
            msg = f"{n_samples} cells were asked for; at least 1 is needed."
            raise ValueError(msg)
        rng = np.random.default_rng(random_state)
        n_draws = min(_N_SHIFT_DRAWS, n_samples)
        shape = n_draws, -(-n_samples // n_draws)
        rows = rng.choice(self._control_rows(adata), shape[0] * shape[1])
        shifts, _ = self.module.draw_shifts(n_draws)
        parts = []
        for _, _, x, dosage, batch in self._minibatches(adata, rows, None):
            z = torch.randn(len(x), self.module.n_latent, device=x.device)
            if basal == "posterior":  # controls have no shift, so one draw of it is as good as any
                mean, scale = self.module.encode(x, dosage, x.new_zeros(1, 1, self.module.n_latent))
                z = (mean + scale * z).reshape(z.shape)
            parts.append((z, self.module.library_size(x), batch))
        z, library, batch = (None if value[0] is None else torch.cat(value) for value in zip(*parts, strict=True))
        batch = None if batch is None else batch.unflatten(0, shape)
        return z.unflatten(0, shape), shifts, library.unflatten(0, shape), batch

    def _as_anndata(self, values: NDArray[np.float32], obs: pd.DataFrame, label: str) -> AnnData:
        obs = obs.copy()
        perturbation_key = self._setup_arg("perturbation_key")
        if perturbation_key is not None:
            obs[perturbation_key] = pd.Categorical([label] * len(obs))
        return AnnData(values, obs=obs, var=pd.DataFrame(index=self.var_names_))
