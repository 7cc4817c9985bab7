"""Reading FCS files, in which flow and mass cytometers store cells."""

from __future__ import annotations

import json
import re
import struct
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from flowio import FlowData
from flowio.exceptions import FlowIOException
from scvi import settings

from scvi_neuronedit.data._names import listed, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

FCS_KEY = "fcs"
_RAW, _MASK = "raw", "_nan_mask"

# what flowio raises on files that are cut off or not what they say
_UNREADABLE = (FlowIOException, ValueError, LookupError, EOFError, ArithmeticError, NotImplementedError, TypeError)
_UNREADABLE += (MemoryError, struct.error, re.error)
_TRUNCATED = ("greater than file size", "not a multiple of item size")
_BYTE_ORDERS = ("1,2,3,4", "4,3,2,1", "1,2", "2,1")
_SPILLOVER = ("spillover", "spill", "comp")
_CHANNEL_KEYWORD = re.compile(r"p(\d+)([a-z]+)")
# how the data are laid out, which changes when they are written; flowCore's notes by channel number
_LAYOUT = re.compile(r"(begin|end)(analysis|data|stext)|byteord|datatype|mode|nextdata|par|tot|timestep|transformation")
_FLOWCORE = re.compile(r"flowcore_p\d+r(min|max)")

_SCATTER = re.compile(r"[fs]sc([-_. ]|[ahw]?$)", re.IGNORECASE)
_TIME = re.compile(r"time\b", re.IGNORECASE)
_TECHNICAL = re.compile(
    r"dna[-_ ]?\d*$|bc[-_ ]?\d+$|barcode|.*bead|live|dead|viab|cisplatin|event_?(length|#)|center$|offset$|width$|residual$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Sample:
    """What one file holds: values ``[n_events, n_channels]``, a row of ``var`` for each channel, and keywords."""

    path: Path
    values: NDArray[np.float32]
    var: pd.DataFrame
    keywords: dict[str, str]
    channel_keywords: dict[str, dict[str, str]]
    has_spillover: bool


def read_fcs(
    path: str | PathLike | Sequence[str | PathLike] | Mapping[str, str | PathLike],
    *,
    join: Literal["exact", "inner", "outer"] = "exact",
    compensate: bool = False,
    samples: pd.DataFrame | None = None,
) -> AnnData:
    """Read FCS files into one AnnData, laid out as :mod:`scvi.external.cytovi` expects it.

    Parameters
    ----------
    path
        A file, a folder (all its ``.fcs`` files, by name), a list of files, or a mapping of sample names to files,
        which is needed where files in different folders have the same name.
    join
        What to do with files of different panels. ``"exact"`` refuses them; ``"inner"`` keeps the markers that all
        files have; ``"outer"`` keeps all, with NaN where a file lacks one, and the layer ``"_nan_mask"``, which is 1
        where there is a value and 0 where not (:func:`scvi.external.cytovi.register_nan_layer` takes it from there).
    compensate
        Whether to apply each file's own spillover matrix.
    samples
        A row for each sample, by name; its columns, such as batch and control, are added to ``adata.obs``.

    Returns
    -------
    AnnData with

    ``X``, ``layers["raw"]``
        Intensities as measured, float32 ``[n_cells, n_channels]``, on the linear scale: values stored with logarithmic
        amplification (``$PnE``) are raised, gains (``$PnG``) divided out, time is in seconds where ``$TIMESTEP`` is
        given.
    ``obs["sample"]``
        Name of the file without its suffix, or the name given in the mapping.
    ``var_names``, ``var["marker"]``, ``var["channel"]``
        Marker (``$PnS``) and channel (``$PnN``). Channels without a marker go by the channel, markers on several channels
        by both.
    ``var["kind"]``
        ``"marker"``, ``"scatter"``, ``"time"`` or ``"other"``: DNA, barcodes, beads, viability, event length, and channels
        without a marker in files that name markers.
    ``uns["fcs"]``
        The files' keywords as JSON, by sample, from which :func:`~scvi_neuronedit.data.write_fcs` writes them again.

    Raises
    ------
    ValueError
        A file is empty, truncated, not FCS or without cells, or panels differ; the file and the cause are named.
    FileNotFoundError
        There is no such file or folder.
    """
    if join not in ("exact", "inner", "outer"):
        raise ValueError(unknown_name("join", join, "the joins", ("exact", "inner", "outer")))
    files = {name: _read_file(file, compensate=compensate) for name, file in _find_files(path).items()}
    if uncompensated := [file.path.name for file in files.values() if file.has_spillover]:
        msg = f"the spillover matrix of {listed(uncompensated)} was not applied; compensate=True applies it."
        warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)
    var = _join_panels(list(files.values()), join)
    x = np.concatenate([file.var.index.get_indexer(var.index)[None] for file in files.values()])
    values = np.concatenate(
        [
            np.where(columns >= 0, file.values[:, columns], np.float32(np.nan))
            for file, columns in zip(files.values(), x, strict=True)
        ]
    )
    sample = np.repeat(list(files), [len(file.values) for file in files.values()])
    names = [f"{name}-{row}" for name, file in files.items() for row in range(len(file.values))]
    obs = pd.DataFrame({"sample": pd.Categorical(sample, categories=list(files))}, index=names)
    if samples is not None:
        obs = _add_columns(obs, samples)
    adata = AnnData(values, obs=obs, var=var)
    adata.layers[_RAW] = values.copy()
    if (x < 0).any():
        adata.layers[_MASK] = (~np.isnan(values)).astype(np.float32)
    adata.uns[FCS_KEY] = {
        name: json.dumps({"keywords": file.keywords, "channels": file.channel_keywords}, sort_keys=True)
        for name, file in files.items()
    }
    return adata


def select_markers(adata: AnnData, markers: Sequence[str] | None = None) -> AnnData:
    """Keep markers only.

    Parameters
    ----------
    adata
        As :func:`read_fcs` returns it.
    markers
        Markers or channels to keep, in this order. If ``None``: all with ``adata.var["kind"] == "marker"``.

    Returns
    -------
    A copy with these columns.
    """
    if markers is None:
        if "kind" not in adata.var:
            msg = "adata.var has no column 'kind' that tells markers from other channels; name the markers."
            raise KeyError(msg)
        return adata[:, (adata.var["kind"] == "marker").to_numpy()].copy()
    markers = [markers] if isinstance(markers, str) else list(markers)
    by_channel = dict(zip(adata.var.get("channel", ()), adata.var_names, strict=False))
    names = [name if name in adata.var_names else by_channel.get(name, name) for name in markers]
    for name in names:
        if name not in adata.var_names:
            raise KeyError(unknown_name("marker", name, "adata.var_names", list(adata.var_names)))
    return adata[:, names].copy()


def _find_files(path: str | PathLike | Sequence | Mapping) -> dict[str, Path]:
    if isinstance(path, Mapping):
        files = {str(name): Path(file) for name, file in path.items()}
    elif not isinstance(path, str | PathLike):
        files = _by_stem([Path(file) for file in path])
    elif Path(path).is_dir():
        found = sorted(f for f in Path(path).iterdir() if f.suffix.lower() == ".fcs" and not f.name.startswith("."))
        files = _by_stem(found)
        if not files:
            msg = f"{path} holds no file ending in .fcs."
            raise ValueError(msg)
    else:
        files = _by_stem([Path(path)])
    if not files:
        msg = "path names no file."
        raise ValueError(msg)
    return files


def _by_stem(files: list[Path]) -> dict[str, Path]:
    counts = Counter(file.stem for file in files)
    if twice := [str(file) for file in files if counts[file.stem] > 1]:
        msg = f"{listed(twice)} would be samples of the same name; pass a mapping of sample names to files."
        raise ValueError(msg)
    return {file.stem: file for file in files}


def _read_file(path: Path, *, compensate: bool) -> _Sample:
    with path.open("rb") as handle:
        start = handle.read(6)
        _check(bool(start), path, "it is empty")
        _check(start.startswith(b"FCS"), path, f"it is not an FCS file, for it begins with {start!r}")
        with _naming(path):
            flow = FlowData(handle, ignore_offset_error=True)
    _check(flow.event_count > 0, path, "it holds no events")
    mode, order = (flow.text.get(key, "").upper() for key in ("mode", "byteord"))
    _check(mode == "L", path, f"it holds histograms instead of events ($MODE {mode!r})")
    _check(order in _BYTE_ORDERS, path, f"its byte order {order!r} is unknown")
    _check(flow.events is not None, path, "it stores integers of a width other than 8, 16 or 32 bits")
    announced = f"{flow.event_count} events of {flow.channel_count} channels"
    n_values = flow.event_count * flow.channel_count
    _check(len(flow.events) == n_values, path, f"it holds {len(flow.events)} values, but announces {announced}")
    names, keywords = [name.strip() for name in flow.pnn_labels], dict(flow.text)
    duplicates = [name for name, n in Counter(names).items() if n > 1]
    _check(not duplicates, path, f"several of its channels have the name {listed(duplicates)}")
    with _naming(path):
        values = flow.as_array()
    spillover = next((keywords[key] for key in _SPILLOVER if key in keywords), None)
    if compensate:
        values = _compensate(values, names, spillover, path)
        keywords = {key: text for key, text in keywords.items() if key not in _SPILLOVER}
    with _naming(path):
        var = _describe_channels(names, [marker.strip() for marker in flow.pns_labels])
        sorted_keywords = _sort_keywords(flow, keywords, var)
    has_spillover = spillover is not None and not compensate
    return _Sample(path, values.astype(np.float32), var, *sorted_keywords, has_spillover)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in whatever goes wrong with it."""
    try:
        yield
    except _UNREADABLE as error:
        if isinstance(error, EOFError) or any(text in str(error) for text in _TRUNCATED):
            cause = "it is truncated"
        else:
            cause = f"it lacks the keyword {error}" if isinstance(error, KeyError) else str(error)
        msg = f"{path} cannot be read: {cause}."
        raise ValueError(msg) from error


def _check(holds: bool, path: Path, cause: str) -> None:
    if not holds:
        msg = f"{path} cannot be read: {cause}."
        raise ValueError(msg)


def _compensate(values: NDArray, channels: list[str], spillover: str | None, path: Path) -> NDArray:
    """Solve observed = true @ spillover, as in FCS 3.1, section 3.2.20."""
    _check(spillover is not None, path, "compensate=True, but it holds no spillover matrix")
    fields = [field.strip() for field in spillover.split(",")]
    n = int(fields[0]) if fields[0].isdigit() else 0
    _check(n > 0 and len(fields) == 1 + n + n * n, path, f"its spillover matrix is malformed ({spillover[:60]!r})")
    unknown = sorted(set(fields[1 : n + 1]) - set(channels))
    _check(not unknown, path, f"its spillover matrix names channels it lacks ({listed(unknown)})")
    columns = [channels.index(name) for name in fields[1 : n + 1]]
    values = values.copy()
    with _naming(path):
        matrix = np.array(fields[n + 1 :], dtype=np.float64).reshape(n, n)
        values[:, columns] = np.linalg.solve(matrix.T, values[:, columns].T).T
    return values


def _describe_channels(channels: list[str], markers: list[str]) -> pd.DataFrame:
    # many writers repeat the channel where there is no marker
    markers = ["" if marker == channel else marker for channel, marker in zip(channels, markers, strict=True)]
    kinds = [_kind(c, m, named=any(markers)) for c, m in zip(channels, markers, strict=True)]
    names = [marker or channel for channel, marker in zip(channels, markers, strict=True)]
    counts = Counter(names)
    names = [name if counts[name] == 1 else f"{name}_{channel}" for name, channel in zip(names, channels, strict=True)]
    return pd.DataFrame({"channel": channels, "marker": markers, "kind": kinds}, index=names)


def _kind(channel: str, marker: str, *, named: bool) -> str:
    if _TIME.match(channel):
        return "time"
    if _SCATTER.match(channel):
        return "scatter"
    if _TECHNICAL.match(marker or channel) or (named and not marker):
        return "other"
    return "marker"


def _sort_keywords(
    flow: FlowData, keywords: dict[str, str], var: pd.DataFrame
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Keywords of the file, and those of each channel, such that they describe values on the linear scale."""
    general, by_channel = {}, {name: {} for name in var.index}
    for key, text in keywords.items():
        if match := _CHANNEL_KEYWORD.fullmatch(key):
            if (number := int(match[1])) <= len(var) and match[2] not in "beg":
                by_channel[var.index[number - 1]][match[2]] = text
        elif not _LAYOUT.fullmatch(key) and not _FLOWCORE.fullmatch(key):
            general[key] = text
    for number, name in enumerate(var.index, start=1):
        channel = flow.channels[number]
        decades, log0 = channel["pne"]
        highest = log0 * 10**decades if decades > 0 else channel["pnr"]
        by_channel[name]["r"] = f"{highest / (channel['png'] or 1):.10g}"
    return general, by_channel


def _join_panels(files: list[_Sample], join: str) -> pd.DataFrame:
    first = files[0]
    for file in files[1:]:
        if join == "exact" and (differences := _compare_panels(first.var, file.var)):
            msg = (
                f"{file.path} and {first.path} have different panels: {differences}. Pass join='inner' to keep the markers "
                "that all files have, or join='outer' to keep all."
            )
            raise ValueError(msg)
    if join == "outer":
        var = pd.concat([file.var for file in files])
        return var[~var.index.duplicated()]
    shared = [name for name in first.var.index if all(name in file.var.index for file in files)]
    if not shared:
        msg = f"the files share no marker: {listed([file.path.name for file in files])}."
        raise ValueError(msg)
    return first.var.loc[shared]


def _compare_panels(first: pd.DataFrame, second: pd.DataFrame) -> str:
    differences = []
    if only := second.index.difference(first.index, sort=False).tolist():
        differences.append(f"only the former has {listed(only)}")
    if only := first.index.difference(second.index, sort=False).tolist():
        differences.append(f"only the latter has {listed(only)}")
    shared = first.index.intersection(second.index)
    moved = shared[(first["channel"][shared] != second["channel"][shared]).to_numpy()].tolist()
    if moved:
        differences.append(f"{listed(moved)} are on different channels")
    return "; ".join(differences)


def _add_columns(obs: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    rows = samples.set_axis(samples.index.astype(str))
    if not rows.index.is_unique or "sample" in rows:
        msg = "samples must have one row for each sample, by name, and no column 'sample'."
        raise ValueError(msg)
    if missing := [name for name in obs["sample"].cat.categories if name not in rows.index]:
        msg = f"samples has no row for {listed(missing)}; it has {listed(rows.index.tolist())}."
        raise ValueError(msg)
    return obs.join(rows, on="sample")
