"""Writing FCS files, in which flow and mass cytometers store cells."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from flowio import create_fcs

from scvi_neuronedit.data._arcsinh import inverse_arcsinh
from scvi_neuronedit.data._fcs_read import FCS_KEY
from scvi_neuronedit.data._matrix import MatrixReader
from scvi_neuronedit.data._names import listed, unknown_name
from scvi_neuronedit.data._obs import check_obs_column

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from numpy.typing import NDArray


def write_fcs(
    adata: AnnData,
    path: str | PathLike,
    layer: str | None,
    *,
    scale: Literal["arcsinh", "raw"] | None = None,
    sample_key: str = "sample",
    overwrite: bool = False,
) -> list[Path]:
    """Write a layer to FCS files on the raw scale, one for each sample.

    Channels, markers and keywords are those of the files the cells were read from. Values that nothing changed since
    are written as they were read.

    Parameters
    ----------
    adata
        Cells, with all channels that the files shall hold.
    path
        Folder, which is made if need be; each file is named after its sample. For a single sample also a name ending
        in ``.fcs``.
    layer
        What to write; ``X`` if ``None``.
    scale
        Scale of the layer: ``"raw"``, or ``"arcsinh"``, which is undone with the cofactors in ``adata.var["cofactor"]``. If
        ``None``: raw for ``X`` and the layer ``"raw"``, arcsinh for any other.
    sample_key
        Column of ``adata.obs`` with the sample of each cell.
    overwrite
        Whether files that exist may be replaced.

    Returns
    -------
    The files.

    Raises
    ------
    ValueError
        A value is not finite, a sample name is not a file name, or a file exists. Nothing is written then.
    KeyError
        The layer, the column or the cofactors are missing.
    """
    if scale not in ("arcsinh", "raw", None):
        raise ValueError(unknown_name("scale", scale, "the scales", ("arcsinh", "raw")))
    check_obs_column(adata, "sample_key", sample_key)
    reader = MatrixReader(adata, layer)
    if scale is None:
        scale = "raw" if layer in (None, "raw") else "arcsinh"
    values = inverse_arcsinh(adata, layer) if scale == "arcsinh" else reader(np.arange(adata.n_obs))
    samples = adata.obs[sample_key].astype(str).to_numpy()
    files = _name_files(Path(path), np.unique(samples).tolist(), overwrite=overwrite)
    contents = {}
    for name in files:
        texts = _texts_of_sample(adata, name)
        columns = adata.var_names.get_indexer(list(texts["channels"]))
        contents[name] = values[samples == name][:, columns], texts
        finite = np.isfinite(contents[name][0])
        if not finite.all():
            bad = adata.var_names[columns[~finite.all(axis=0)]]
            msg = f"{reader.name} holds values of sample {name!r} that are not finite, in {listed(bad)}."
            raise ValueError(msg)
    for name, file in files.items():
        _write_file(file, *contents[name])
    return list(files.values())


def _name_files(path: Path, samples: list[str], *, overwrite: bool) -> dict[str, Path]:
    if path.suffix.lower() == ".fcs" and not path.is_dir():
        if len(samples) > 1:
            msg = f"path={str(path)!r} is one file, but there are {len(samples)} samples; name a folder."
            raise ValueError(msg)
        files = {samples[0]: path}
    else:
        if bad := [name for name in samples if Path(name).name != name]:
            msg = f"samples {listed(bad)} cannot be names of files."
            raise ValueError(msg)
        files = {name: path / f"{name}.fcs" for name in samples}
    if not overwrite and (existing := [str(file) for file in files.values() if file.exists()]):
        msg = f"{listed(existing)} exist; choose another path or pass overwrite=True."
        raise ValueError(msg)
    return files


def _texts_of_sample(adata: AnnData, sample: str) -> dict[str, dict]:
    """Keywords of a sample, of the channels that ``adata`` has and the sample's file had."""
    if stored := adata.uns.get(FCS_KEY, {}).get(sample):
        texts = json.loads(stored)
        channels = texts["channels"]
        # columns that no file had, such as made by the user, are written too
        known = set().union(*(json.loads(text)["channels"] for text in adata.uns[FCS_KEY].values()))
        names = [name for name in adata.var_names if name in channels or name not in known]
    else:
        texts, channels, names = {"keywords": {}}, {}, list(adata.var_names)
    named = {
        name: {"n": str(adata.var["channel"].get(name, name)) if "channel" in adata.var else name, "s": name}
        for name in names
    }
    return {"keywords": texts["keywords"], "channels": {name: channels.get(name, named[name]) for name in names}}


def _write_file(file: Path, values: NDArray[np.float32], texts: dict[str, dict]) -> None:
    channels = list(texts["channels"].values())
    metadata = dict(texts["keywords"])
    for number, (channel, column) in enumerate(zip(channels, values.T, strict=True), start=1):
        highest = max(float(channel.get("r", 0)), float(np.ceil(column.max())))
        metadata |= {f"p{number}{suffix}": text for suffix, text in channel.items()}
        metadata[f"p{number}r"] = f"{highest:.10g}"
    # flowio delimits by "/", which must not be in a keyword nor begin or end a text, and texts must not be empty
    metadata = {key.replace("/", "_"): _delimitable(text) for key, text in metadata.items() if text}
    file.parent.mkdir(parents=True, exist_ok=True)
    events = array("f")
    events.frombytes(np.ascontiguousarray(values, dtype=np.float32).tobytes())
    names, markers = ([_delimitable(channel.get(suffix, "")) for channel in channels] for suffix in "ns")
    partial = file.with_name(file.name + ".part")
    with partial.open("wb") as handle:
        create_fcs(handle, events, names, opt_channel_names=markers, metadata_dict=metadata)
    partial.replace(file)


def _delimitable(text: str) -> str:
    return f" {text} " if text.startswith("/") or text.endswith("/") else text
