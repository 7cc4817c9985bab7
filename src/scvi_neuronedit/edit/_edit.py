"""The edit: what was learnt between two populations, to be applied, inverted, chained, scaled and kept."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from scvi_neuronedit.edit._maps import ActivationMap, make_map
from scvi_neuronedit.edit._support import neighbor_support

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any

    from numpy.typing import NDArray

_FORMAT = 1
_STEP_ARRAYS = ("source_range", "target_range", "source_sample", "target_sample")
_N_SAMPLE = 500


@dataclass(frozen=True, eq=False)
class Step:
    """One activation map at one layer.

    Parameters
    ----------
    layer
        Name of the layer whose activations the map edits.
    map
        The fitted map.
    source_range, target_range
        Smallest and largest activation of each neuron in the two populations, of shape ``[2, n_neurons]``.
    source_sample, target_sample
        A few hundred cells of the two populations, of shape ``[n_cells, n_neurons]``.
    strength
        Share of the map's displacement that is applied.
    """

    layer: str
    map: ActivationMap
    source_range: NDArray
    target_range: NDArray
    source_sample: NDArray
    target_sample: NDArray
    strength: float = 1.0

    def __call__(self, activations: NDArray) -> NDArray:
        """Edited activations, of the shape of ``activations``."""
        edited = self.map(activations)
        return edited if self.strength == 1 else activations + self.strength * (edited - activations)

    def inverse(self) -> Step:
        """The step from target to source, of the same strength."""
        return Step(
            self.layer,
            self.map.inverse(),
            self.target_range,
            self.source_range,
            self.target_sample,
            self.source_sample,
            self.strength,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Edit:
    """A sequence of activation maps, with what they were learnt from.

    Edits are values: every method returns a new edit. Arrays in, arrays out; a model's ``apply_edit`` runs an edit
    inside its network and brings the result back to expression.

    Parameters
    ----------
    steps
        The maps in the order they are applied; those of one layer follow each other.
    model
        Fingerprint of the model whose activations the maps belong to; empty if there is none.
    info
        Where the edit comes from: JSON-serialisable. Names that end in ``source`` or ``target`` (such as
        ``n_source``) change places when the edit is inverted.
    """

    steps: tuple[Step, ...]
    model: str = ""
    info: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def learn(
        cls,
        source: NDArray,
        target: NDArray,
        *,
        method: str | ActivationMap = "neighbor",
        layer: str = "code",
        source_weights: NDArray | None = None,
        target_weights: NDArray | None = None,
        groups: tuple[NDArray, NDArray] | None = None,
        unpaired: tuple[NDArray, NDArray] | None = None,
        model: str = "",
        info: dict[str, Any] | None = None,
        **params: Any,
    ) -> Edit:
        """Learn an edit from the activations of two populations.

        Parameters
        ----------
        source, target
            Activations of shapes ``[n_source, n_neurons]`` and ``[n_target, n_neurons]``, finite.
        method
            Name of an activation map (see :func:`~scvi_neuronedit.edit.make_map`) or a map.
        layer
            Name of the layer.
        source_weights, target_weights
            Positive weights of the cells, of shapes ``[n_source]`` and ``[n_target]``. All equal if ``None``.
        groups
            Group of every source and of every target cell, such as its cell type; see the maps.
        unpaired
            Activations and groups of further source cells, of groups the target lacks, for the maps that make use of them.
        model
            Fingerprint of the model the activations come from.
        info
            Kept with the edit.
        params
            Parameters of the map.
        """
        source, target = _activations(source, "source"), _activations(target, "target")
        if source.shape[1] != target.shape[1]:
            msg = f"source has {source.shape[1]} neurons and target {target.shape[1]}; both must come from one layer."
            raise ValueError(msg)
        new = make_map(method, **params)
        extra = {"unpaired": unpaired} if new.uses_unpaired else {}
        step = Step(
            layer,
            new.fit(source, target, source_weights, target_weights, groups, **extra),
            np.stack([source.min(axis=0), source.max(axis=0)]),
            np.stack([target.min(axis=0), target.max(axis=0)]),
            _sample(source),
            _sample(target),
        )
        return cls((step,), model, info or {})

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers edited, in order of first appearance."""
        return tuple(dict.fromkeys(step.layer for step in self.steps))

    def __call__(self, activations: NDArray | torch.Tensor, layer: str | None = None) -> NDArray | torch.Tensor:
        """Edit the activations of one layer.

        Parameters
        ----------
        activations
            Array, or tensor on any device, of shape ``[n_cells, n_neurons]``.
        layer
            Name of the layer; may be left out where the edit has only one.

        Returns
        -------
        Edited activations: same type, shape, dtype and device.
        """
        if isinstance(activations, torch.Tensor):
            edited = self(activations.detach().cpu().numpy(), layer)
            return torch.from_numpy(edited).to(activations.device, activations.dtype)
        activations = _activations(activations, "activations")
        for step in self._steps_at(layer, activations):
            activations = step(activations)
        return activations

    def share_outside(self, activations: NDArray, layer: str | None = None) -> NDArray:
        """Share of each cell's neurons that lie outside the range its source cells showed.

        Parameters
        ----------
        activations
            Activations of shape ``[n_cells, n_neurons]`` before the edit.
        layer
            Name of the layer; may be left out where the edit has only one.

        Returns
        -------
        Array of shape ``[n_cells]``, between 0 and 1. A neuron counts if it is outside at any step of the layer.
        """
        activations = _activations(activations, "activations")
        outside = np.zeros(activations.shape, dtype=bool)
        steps = self._steps_at(layer, activations)
        for i, step in enumerate(steps):
            if i > 0:
                activations = steps[i - 1](activations)
            outside |= (activations < step.source_range[0]) | (activations > step.source_range[-1])
        return outside.mean(axis=1)

    def support(self, activations: NDArray) -> NDArray:
        """How well the source cells speak for each cell, at the first layer edited.

        Parameters
        ----------
        activations
            Activations of that layer before the edit, of shape ``[n_cells, n_neurons]``.

        Returns
        -------
        Array of shape ``[n_cells]``, between 0 (farther out than every source cell) and 1; see
        :func:`~scvi_neuronedit.edit.neighbor_support`.
        """
        step = self._steps_at(self.layers[0], activations)[0]
        return neighbor_support(activations, step.source_sample)

    @property
    def selection_(self) -> pd.DataFrame | None:
        """The table ``method="auto"`` decided from, best first; ``None`` if nothing was to decide."""
        return pd.DataFrame(self.info["selection"]) if "selection" in self.info else None

    def _steps_at(self, layer: str | None, activations: NDArray) -> list[Step]:
        if layer is None and len(self.layers) > 1:
            msg = f"layer must be named: this edit has steps at {', '.join(map(repr, self.layers))}."
            raise ValueError(msg)
        layer = self.layers[0] if layer is None else layer
        if layer not in self.layers:
            msg = f"layer={layer!r} is not edited; this edit has steps at {', '.join(map(repr, self.layers))}."
            raise ValueError(msg)
        steps = [step for step in self.steps if step.layer == layer]
        n_neurons = steps[0].source_range.shape[1]
        if activations.shape[1] != n_neurons:
            msg = f"activations have {activations.shape[1]} neurons; the edit of layer {layer!r} has {n_neurons}."
            raise ValueError(msg)
        return steps

    def inverse(self) -> Edit:
        """The edit from target to source.

        Steps are inverted and reversed; each keeps its strength. How exact the inverse is depends on the map.
        """
        return Edit(tuple(step.inverse() for step in reversed(self.steps)), self.model, _inverse_info(self.info))

    def scale(self, strength: float) -> Edit:
        """The edit with the displacement of every step multiplied by ``strength`` (0: nothing, 1: unchanged)."""
        if not np.isfinite(strength):
            msg = f"strength={strength}; it must be a finite number."
            raise ValueError(msg)
        steps = tuple(dataclasses.replace(step, strength=step.strength * strength) for step in self.steps)
        return dataclasses.replace(self, steps=steps)

    def __rshift__(self, other: Edit) -> Edit:
        """Chain: ``a >> b`` applies ``a``, then ``b``, at each layer."""
        if not isinstance(other, Edit):
            return NotImplemented
        if self.model != other.model:
            msg = f"edits of different models cannot be chained (models {self.model!r} and {other.model!r})."
            raise ValueError(msg)
        info = {name: value for name, value in self.info.items() if not name.endswith("target")}
        info |= {name: value for name, value in other.info.items() if name.endswith("target")}
        info["chain"] = [part for edit in (self, other) for part in edit.info.get("chain", [edit.info])]
        return Edit(self.steps + other.steps, self.model, info)

    def save(self, path: str | PathLike) -> None:
        """Write the edit to one file: plain arrays and JSON in the npz format, no pickle.

        Parameters
        ----------
        path
            File to write, replaced if it exists. ``.npz`` is a fitting suffix; none is added.
        """
        header = {
            "format": _FORMAT,
            "model": self.model,
            "info": self.info,
            "steps": [
                {"layer": step.layer, "strength": step.strength, "map": step.map.name, "params": step.map.get_params()}
                for step in self.steps
            ],
        }
        arrays = {"header": np.array(json.dumps(header))}
        for i, step in enumerate(self.steps):
            arrays |= {f"{i}/{name}": getattr(step, name) for name in _STEP_ARRAYS}
            arrays |= {f"{i}/map/{name}": array for name, array in step.map.get_state().items()}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | PathLike) -> Edit:
        """Read an edit written by :meth:`save`.

        Parameters
        ----------
        path
            File to read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            header = json.loads(arrays["header"].item())
        except (ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
            msg = f"{str(path)!r} is not a saved edit, or is damaged."
            raise ValueError(msg) from error
        if header["format"] > _FORMAT:
            msg = f"{str(path)!r} has format {header['format']}, newer than this version reads ({_FORMAT}); upgrade."
            raise ValueError(msg)
        steps = []
        for i, entry in enumerate(header["steps"]):
            prefix = f"{i}/map/"
            state = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            steps.append(
                Step(
                    entry["layer"],
                    make_map(entry["map"], **entry["params"])._with_state(**state),
                    *(arrays[f"{i}/{name}"] for name in _STEP_ARRAYS),
                    entry["strength"],
                )
            )
        return cls(tuple(steps), header["model"], header["info"])

    def __repr__(self) -> str:
        lines = [f"Edit: {describe(self.info)}"]
        for step in self.steps:
            params = ", ".join(f"{name}={value}" for name, value in step.map.get_params().items())
            strength = "" if step.strength == 1 else f", strength {step.strength:g}"
            n_neurons = step.source_range.shape[1]
            lines.append(f"  {step.layer!r} ({n_neurons} neurons): {step.map.name}({params}){strength}")
        return "\n".join(lines)


def describe(info: dict[str, Any]) -> str:
    """One line that says where an edit comes from.

    Parameters
    ----------
    info
        The ``info`` of an edit.
    """
    if "chain" in info:
        return " >> ".join(f"({describe(part)})" for part in info["chain"])
    if "n_source" not in info:
        return "between two arrays"
    matched = f", matched on {info['match_key']!r}" if info.get("match_key") else ""
    cells = f"{info['n_source']:,} and {info['n_target']:,} cells"
    return f"{info['source']} -> {info['target']}, learnt on {cells}{matched}"


def _inverse_info(info: dict[str, Any]) -> dict[str, Any]:
    other_side = {"source": "target", "target": "source"}
    inverse = {}
    for name, value in info.items():
        prefix, _, side = name.rpartition("_")
        if side in other_side:
            name = f"{prefix}_{other_side[side]}".lstrip("_")
        inverse[name] = value
    if "chain" in info:
        inverse["chain"] = [_inverse_info(part) for part in reversed(info["chain"])]
    return inverse


def _activations(values: NDArray, argument: str) -> NDArray:
    values = np.asarray(values)
    if values.ndim != 2:
        msg = f"{argument} has {values.ndim} dimensions; it must be [n_cells, n_neurons]."
        raise ValueError(msg)
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    if not np.isfinite(values).all():
        msg = f"{argument} holds NaN or infinite values."
        raise ValueError(msg)
    return values


def _sample(cells: NDArray) -> NDArray:
    """Cells spread evenly over the population."""
    return np.array(cells[np.unique(np.linspace(0, len(cells) - 1, _N_SAMPLE).astype(np.intp))])
