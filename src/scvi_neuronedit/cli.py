"""The command line: the same verbs on files."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

app = typer.Typer(
    help="Predict cells after a change that was only measured on other cells.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Likelihood(StrEnum):
    """Likelihoods of the autoencoder."""

    normal = "normal"
    nb = "nb"
    poisson = "poisson"


class Method(StrEnum):
    """Activation maps."""

    auto = "auto"
    group = "group"
    pairs = "pairs"
    neighbor = "neighbor"
    percentile = "percentile"
    mean = "mean"
    gaussian = "gaussian"
    group_gaussian = "group_gaussian"


InputFile = Annotated[Path, typer.Argument(metavar="IN.h5ad", help="File to read.")]


@app.command()
def predict(
    input_file: InputFile,
    output_file: Annotated[Path, typer.Argument(metavar="OUT.h5ad", help="File to write: the input and a layer more.")],
    condition_key: Annotated[str, typer.Option(help="Column of obs with the condition.")],
    source: Annotated[str, typer.Option(help="Condition of the cells before the change.")],
    target: Annotated[str, typer.Option(help="Condition of the cells after the change.")],
    query: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Cells to predict; repeat for further columns or values. Among the source cells, unless the "
            "condition column itself is named. [default: source cells of labels without target cells, or all]",
        ),
    ] = None,
    layer_added: Annotated[str, typer.Option(help="Layer to write.")] = "predicted",
    layer: Annotated[str | None, typer.Option(help="Layer to read. [default: X]")] = None,
    labels_key: Annotated[str | None, typer.Option(help="Column of obs with the cell type, to match on.")] = None,
    batch_key: Annotated[str | None, typer.Option(help="Column of obs with the batch.")] = None,
    likelihood: Annotated[Likelihood, typer.Option(help="normal: log-normalised or arcsinh data.")] = Likelihood.normal,
    method: Annotated[
        Method, typer.Option(help="Activation map; auto: what predicts left-out groups best.")
    ] = Method.auto,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Passes through the data. [default: by size]")] = None,
    accelerator: Annotated[str, typer.Option(help="As in scvi-tools: auto, cpu, gpu, ...")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file, or the layer.")] = False,
) -> None:
    """Train a model, learn the edit from SOURCE to TARGET, and write predicted cells into a layer."""
    with _one_line_errors():
        _check_output(output_file, overwrite=overwrite)
        selection = _parse_query(query, condition_key, source)
        adata = _read(input_file)

        import scvi

        from scvi_neuronedit import NeuronEdit
        from scvi_neuronedit.data import check_layer_is_free, select_cells, select_populations

        check_layer_is_free(adata, layer_added, overwrite=overwrite)
        names = set(adata.obs), set(adata.uns)
        scvi.settings.seed = seed
        NeuronEdit.setup_anndata(
            adata, layer=layer, condition_key=condition_key, batch_key=batch_key, labels_key=labels_key
        )
        # what training for minutes would only find out at its end
        keys = {"condition_key": condition_key, "labels_key": labels_key}
        select_populations(adata, source, target, **keys, warn=False)
        if selection is not None:
            select_cells(adata, selection, argument="query", condition_key=condition_key)
        model = NeuronEdit(adata, likelihood=likelihood.value)
        model.train(max_epochs=max_epochs, accelerator=accelerator)
        model.predict_condition(
            source,
            target,
            selection,
            layer_added=layer_added,
            method=method.value,
            overwrite=overwrite,
            random_state=seed,
            silent=False,
        )
        _remove_registration(adata, *names)
        _write(adata, output_file)
    record = adata.uns["neuronedit"][layer_added]
    typer.echo(f"{record['n_query']:,} cells predicted ({record['edit']}); layer {layer_added!r} of {output_file}")


@app.command()
def correct(
    input_path: Annotated[Path, typer.Argument(metavar="IN", help="h5ad file, or folder of FCS files, to read.")],
    output_path: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="h5ad file to write: the input and a layer more. Or folder, for FCS files."),
    ],
    batch_key: Annotated[str, typer.Option(help="Column with the batch.")],
    control_key: Annotated[str, typer.Option(help="Column with the name of the control; empty for other cells.")],
    reference: Annotated[str, typer.Option(help="Batch to correct towards; or largest, or pooled.")],
    control: Annotated[
        list[str] | None,
        typer.Option(help="Control to learn from; repeat for several. [default: all that several batches have]"),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="SHEET.csv",
            help="For FCS files: table of them, by file name in its first column, with these columns.",
        ),
    ] = None,
    marker: Annotated[
        list[str] | None,
        typer.Option(help="For FCS files: marker to correct; repeat for several. [default: all but scatter, DNA, ...]"),
    ] = None,
    cofactor: Annotated[
        str,
        typer.Option(
            metavar="NUMBER|TABLE.csv",
            help="For FCS files: markers are arcsinh(x / cofactor); one for all, or a table of markers and cofactors.",
        ),
    ] = "5",
    layer_added: Annotated[str, typer.Option(help="Layer to write.")] = "corrected",
    layer: Annotated[str | None, typer.Option(help="Layer to read. [default: X]")] = None,
    labels_key: Annotated[str | None, typer.Option(help="Column with the cell type, to match on.")] = None,
    likelihood: Annotated[Likelihood, typer.Option(help="normal: log-normalised or arcsinh data.")] = Likelihood.normal,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Passes through the data. [default: by size]")] = None,
    accelerator: Annotated[str, typer.Option(help="As in scvi-tools: auto, cpu, gpu, ...")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace output files, or the layer.")] = False,
) -> None:
    """Correct every batch towards a reference by what moves its control samples."""
    with _one_line_errors():
        is_fcs = input_path.is_dir()
        if not is_fcs:
            if samples is not None:
                msg = f"--samples is for a folder of FCS files; {input_path} is none."
                raise ValueError(msg)
            _check_output(output_path, overwrite=overwrite)
        elif layer is not None or likelihood != Likelihood.normal:
            msg = "--layer and --likelihood are for h5ad files; the markers of FCS files are arcsinh(x / cofactor), with normal likelihood."
            raise ValueError(msg)
        elif output_path.is_file() or output_path.resolve() == input_path.resolve():
            msg = f"{output_path} must be a folder other than the input."
            raise ValueError(msg)
        elif not overwrite and output_path.is_dir() and any(output_path.glob("*.fcs")):
            msg = f"{output_path} holds FCS files already; choose another folder or pass --overwrite."
            raise ValueError(msg)

        import scvi

        from scvi_neuronedit import NeuronEdit
        from scvi_neuronedit.data import arcsinh, check_layer_is_free, check_obs_column, select_markers, write_fcs

        adata = _read_fcs(input_path, samples) if is_fcs else _read(input_path)
        if is_fcs:
            arcsinh(adata, _read_cofactors(cofactor))
            layer = "transformed"
        check_layer_is_free(adata, layer_added, overwrite=overwrite)
        check_obs_column(adata, "batch_key", batch_key)
        controls = {control_key: control or _shared_controls(adata, batch_key, control_key)}
        names = set(adata.obs), set(adata.uns)
        scvi.settings.seed = seed
        cells = select_markers(adata, marker) if is_fcs else adata
        NeuronEdit.setup_anndata(cells, layer=layer, batch_key=batch_key, labels_key=labels_key)
        model = NeuronEdit(cells, likelihood=likelihood.value)
        model.check_controls(reference, controls)  # what training for minutes would only find out at its end
        model.train(max_epochs=max_epochs, accelerator=accelerator)
        model.correct_batch(
            reference, controls, adata, layer_added, overwrite=overwrite, random_state=seed, silent=False
        )
        if is_fcs:
            write_fcs(adata, output_path, layer_added, overwrite=overwrite)
        else:
            _remove_registration(adata, *names)
            _write(adata, output_path)
    record = adata.uns["neuronedit"][layer_added]
    for batch, way in record["batches"].iterrows():
        typer.echo(
            f"{way['path']} (learnt from {way['controls']}): mean EMD of controls held out, first step, "
            f"{way['emd_before']} -> {way['emd_after']}; features of {batch} kept back: {way['kept_back'] or 'none'}"
        )
    typer.echo(f"{record['n_query']:,} cells corrected ({record['edit']}); {output_path}")


@app.command()
def info(input_file: InputFile) -> None:
    """Show what a file holds: layers, columns to name, and layers written by this package."""
    with _one_line_errors():
        adata = _read(input_file, backed=True)
        typer.echo(f"{input_file}: {adata.n_obs:,} cells x {adata.n_vars:,} features")
        for name in [None, *adata.layers]:
            typer.echo(f"  {'X' if name is None else f'layer {name!r}'}: {_describe_values(adata, name)}")
        for column in adata.obs:
            counts = adata.obs[column].value_counts()
            if len(counts) <= 20:
                values = ", ".join(f"{value} ({n:,})" for value, n in counts.items())
                typer.echo(f"  obs {column!r}: {values}")
        for name, record in adata.uns.get("neuronedit", {}).items():
            typer.echo(f"  {name!r} was written by scvi-neuronedit {record['versions']['scvi-neuronedit']}:")
            typer.echo(f"    {record['edit']}; query {record['query']} ({record['n_query']:,} cells)")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what a caller can mend into one line and exit code 1; show warnings as one line each."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"Warning: {message}", err=True)
        try:
            yield
        except (KeyError, MisconfigurationException, OSError, RuntimeError, TypeError, ValueError) as error:
            text = error.args[0] if isinstance(error, KeyError) and error.args else error
            typer.echo(f"Error: {text}", err=True)
            raise typer.Exit(1) from error


def _parse_query(query: list[str] | None, condition_key: str, source: str) -> dict[str, list[str]] | None:
    if not query:
        return None
    selection: dict[str, list[str]] = {}
    for entry in query:
        column, separator, value = entry.partition("=")
        if not (column and separator and value):
            msg = f"--query {entry!r} must have the form COLUMN=VALUE, such as cell_type=B."
            raise ValueError(msg)
        selection.setdefault(column, []).append(value)
    return {condition_key: [source], **selection}


def _check_output(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        msg = f"{path} already exists; choose another name or pass --overwrite."
        raise ValueError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"the folder of {path} does not exist."
        raise ValueError(msg)


def _read_fcs(folder: Path, sheet: Path | None) -> AnnData:
    """The FCS files of a folder, with the columns of the table of samples."""
    import pandas as pd

    from scvi_neuronedit.data import read_fcs

    if sheet is None:
        msg = f"{folder} is a folder of FCS files; --samples must name the table that says which batch each is of."
        raise ValueError(msg)
    table = pd.read_csv(sheet, index_col=0, dtype=str)
    table.index = table.index.astype(str).str.replace(r"\.fcs$", "", case=False, regex=True)
    return read_fcs(folder, samples=table)


def _read_cofactors(cofactor: str) -> float | dict[str, float]:
    """The number, or what the first two columns of a table say."""
    try:
        return float(cofactor)
    except ValueError:
        pass
    import pandas as pd

    if not Path(cofactor).is_file():
        msg = f"--cofactor {cofactor}: it must be a number, or a table (.csv) of markers and cofactors."
        raise ValueError(msg)
    table = pd.read_csv(cofactor, index_col=0)
    if table.shape[1] != 1 or not pd.api.types.is_numeric_dtype(table.iloc[:, 0]):
        msg = f"--cofactor {cofactor}: the table must have two columns, markers and their cofactors."
        raise ValueError(msg)
    return table.iloc[:, 0].to_dict()


def _shared_controls(adata: AnnData, batch_key: str, control_key: str) -> list[str]:
    """Values of the control column that more than one batch has."""
    from scvi_neuronedit.data import listed, unknown_name

    if control_key not in adata.obs:
        raise KeyError(unknown_name("control_key", control_key, "adata.obs", adata.obs.columns))
    values = adata.obs[control_key]
    named = values[values.notna() & ~values.astype(str).str.lower().isin(["", "nan", "none", "no", "false"])]
    n_batches = adata.obs.loc[named.index].groupby(control_key, observed=True)[batch_key].nunique()
    if not (n_batches > 1).any():
        msg = f"control_key: no value of adata.obs[{control_key!r}] ({listed(n_batches.index)}) is in several batches."
        raise ValueError(msg)
    shared = n_batches.index[n_batches > 1].tolist()
    if values.isin(shared).all():
        msg = f"every cell is of a control, by adata.obs[{control_key!r}] ({listed(shared)}); name controls with --control."
        raise ValueError(msg)
    return shared


def _read(path: Path, *, backed: bool = False) -> AnnData:
    import anndata

    if not path.is_file():
        msg = f"{path} does not exist or is not a file."
        raise ValueError(msg)
    try:
        return anndata.read_h5ad(path, backed="r" if backed else None)
    except (KeyError, OSError) as error:
        msg = f"{path} cannot be read as an h5ad file: {error}"
        raise ValueError(msg) from error


def _write(adata: AnnData, path: Path) -> None:
    """Write to a temporary file beside the output and rename it: a crash leaves no half file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        adata.write_h5ad(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_registration(adata: AnnData, columns: set[str], keys: set[str]) -> None:
    """Drop what scvi-tools leaves in a registered AnnData, unless it was there before."""
    for column in [name for name in adata.obs if name.startswith("_scvi_") and name not in columns]:
        del adata.obs[column]
    for key in [name for name in adata.uns if name.startswith("_scvi_") and name not in keys]:
        del adata.uns[key]


def _describe_values(adata: AnnData, layer: str | None) -> str:
    from scvi_neuronedit.data import MatrixReader, summarize_values

    try:
        reader = MatrixReader(adata, layer)
        values = summarize_values(reader)
    except (KeyError, TypeError, ValueError) as error:
        return f"cannot be used ({error.args[0]})"
    kind = "with negative values"
    if values.minimum >= 0:
        kind = "counts" if values.is_integer else "non-negative"
    return f"{'sparse' if reader.is_sparse else 'dense'}, {kind}"
