"""Registering, training, looking inside, saving; the traps of scvi-tools that give silent wrong answers."""

import ast
import warnings
from pathlib import Path

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scvi
from scipy import sparse
from scvi.model.base import UnsupervisedTrainingMixin

import scvi_neuronedit
from scvi_neuronedit import NeuronEdit

KEYS = {"condition_key": "condition", "labels_key": "cell_type"}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def make(adata, likelihood="normal", **setup):
    NeuronEdit.setup_anndata(adata, **{**KEYS, **setup})
    return NeuronEdit(adata, n_latent=8, hidden=(32,), dropout_rate=0, likelihood=likelihood)


# registering and training --------------------------------------------------------------------------------------------


def test_training_reduces_the_loss_and_keeps_a_history(model):
    history = model.history["reconstruction_loss_train"].to_numpy(float).ravel()
    assert len(history) == 40
    assert history[-1] < 0.7 * history[0]


def test_same_seed_same_bytes(adata):
    fingerprints = []
    for seed in (3, 3, 4):
        scvi.settings.seed = seed
        model = make(adata.copy())
        model.train(max_epochs=2, **QUIET)
        fingerprints.append(model.fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_all_cells_are_trained_on_unless_some_are_needed_to_validate(adata):
    few = adata[:129].copy()  # scvi-tools moves a last minibatch of one cell to validation
    model = make(few)
    model.train(max_epochs=1, **QUIET)
    assert len(model.train_indices) == 129
    model.train(max_epochs=1, early_stopping=True, **QUIET)
    assert len(model.validation_indices) >= 12


def test_early_stopping(adata):
    model = make(adata)
    model.train(max_epochs=40, early_stopping=True, early_stopping_patience=1, early_stopping_min_delta=1e3, **QUIET)
    assert len(model.history["elbo_validation"]) < 40


@pytest.mark.parametrize(("n_cells", "max_epochs"), [(100, 400), (1280, 100), (2560, 50), (20_000, 50), (100_000, 10)])
def test_default_number_of_epochs(monkeypatch, n_cells, max_epochs):
    asked = {}
    monkeypatch.setattr(UnsupervisedTrainingMixin, "train", lambda self, **kwargs: asked.update(kwargs))
    cells = ad.AnnData(sparse.csr_matrix(np.full((n_cells, 1), 0.5, np.float32)))
    NeuronEdit.setup_anndata(cells)
    NeuronEdit(cells).train()
    assert asked["max_epochs"] == max_epochs


@pytest.mark.parametrize(
    "storage",
    [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array, lambda x: x.toarray()],
    ids=["csr_matrix", "csc_matrix", "csr_array", "csc_array", "ndarray"],
)
def test_every_matrix_gives_the_same_model(adata, storage):
    expected = make(adata.copy())
    expected.train(max_epochs=1, **QUIET)
    adata.X = storage(adata.X)
    scvi.settings.seed = 0
    model = make(adata)
    model.train(max_epochs=1, **QUIET)
    np.testing.assert_allclose(
        model.get_latent_representation(), expected.get_latent_representation(), rtol=1e-3, atol=1e-4
    )


def test_setup_leaves_the_values_alone(adata):
    before = adata.copy()
    make(adata).train(max_epochs=1, **QUIET)
    assert (adata.X != before.X).nnz == 0
    assert (adata.layers["counts"] != before.layers["counts"]).nnz == 0
    pd.testing.assert_frame_equal(adata.obs[before.obs.columns], before.obs)


def test_a_view_is_refused(adata):
    with pytest.raises(ValueError, match=r"adata is a view of another AnnData; pass adata.copy\(\)"):
        make(adata[::2])


@pytest.mark.parametrize("storage", [sparse.csr_matrix, lambda x: x.toarray()], ids=["csr_matrix", "ndarray"])
def test_training_on_a_backed_file(adata, tmp_path, storage):
    adata.X = storage(adata.X)
    adata.write_h5ad(tmp_path / "x.h5ad")
    expected = make(adata)
    expected.train(max_epochs=1, **QUIET)
    scvi.settings.seed = 0
    model = make(ad.read_h5ad(tmp_path / "x.h5ad", backed="r"))
    model.train(max_epochs=1, **QUIET)
    np.testing.assert_allclose(
        model.get_latent_representation(), expected.get_latent_representation(), rtol=1e-3, atol=1e-4
    )


def test_a_layer_can_be_registered(adata):
    model = make(adata, likelihood="nb", layer="counts")
    model.train(max_epochs=1, **QUIET)
    assert model.get_normalized_expression(library_size="latent").to_numpy().sum() == pytest.approx(
        adata.layers["counts"].sum(), rel=1e-4
    )


def test_condition_and_batch_are_no_inputs(adata):
    adata.obs["batch"] = "a"
    model = make(adata, batch_key="batch")
    model.train(max_epochs=1, **QUIET)
    before = model.get_latent_representation()
    query = adata.copy()
    query.obs["condition"], query.obs["batch"], query.obs["cell_type"] = "new", 0, np.nan
    np.testing.assert_array_equal(model.get_latent_representation(query), before)


@pytest.mark.parametrize(
    ("change", "setup", "error", "message"),
    [
        (
            lambda a: None,
            {"condition_key": "conditon"},
            KeyError,
            "condition_key 'conditon' .*did you mean 'condition'",
        ),
        (lambda a: None, {"batch_key": "batch"}, KeyError, "batch_key 'batch' is not in adata.obs"),
        (lambda a: None, {"layer": "count"}, KeyError, "did you mean 'counts'"),
        (
            lambda a: a.obs.__setitem__("b", ["x", None] * (a.n_obs // 2)),
            {"batch_key": "b"},
            ValueError,
            "no value for 350",
        ),
        (lambda a: a.obs.__setitem__("s", 0.0), {"size_factor_key": "s"}, ValueError, "must be positive"),
        (lambda a: setattr(a, "var_names", ["g"] * a.n_vars), {}, ValueError, "var_names are not unique: 'g'"),
        (lambda a: a.X.data.__setitem__(5, np.nan), {}, ValueError, r"adata\.X holds NaN or infinite"),
        (lambda a: a.X.data.__setitem__(5, np.inf), {}, ValueError, r"adata\.X holds NaN or infinite"),
    ],
)
def test_bad_setup_is_refused_before_anything_is_written(adata, change, setup, error, message):
    change(adata)
    columns = list(adata.obs)
    with pytest.raises(error, match=message):
        NeuronEdit.setup_anndata(adata, **{**KEYS, **setup})
    assert list(adata.obs) == columns
    assert not [key for key in adata.uns if key.startswith("_scvi")]


def test_bad_likelihoods(adata):
    NeuronEdit.setup_anndata(adata)
    with pytest.raises(ValueError, match=r"likelihood 'zinb' is not in the likelihoods \('normal', 'nb', 'poisson'\)"):
        NeuronEdit(adata, likelihood="zinb")
    adata.layers["negative"] = adata.X - 1 if not sparse.issparse(adata.X) else adata.X.toarray() - 1
    NeuronEdit.setup_anndata(adata, layer="negative")
    with pytest.raises(
        ValueError, match=r"likelihood='nb' is for counts, but adata.layers\['negative'\] holds negative"
    ):
        NeuronEdit(adata, likelihood="nb")


def test_suspicious_values_warn(adata):
    NeuronEdit.setup_anndata(adata)
    with pytest.warns(UserWarning, match="holds values that are not whole numbers"):
        NeuronEdit(adata, likelihood="poisson")
    NeuronEdit.setup_anndata(adata, layer="counts")
    with pytest.warns(UserWarning, match="holds counts, but likelihood='normal'"):
        NeuronEdit(adata)
    adata.obs["size"] = 1.0
    NeuronEdit.setup_anndata(adata, size_factor_key="size")
    with pytest.warns(UserWarning, match="size_factor_key has no effect"):
        NeuronEdit(adata)


def test_size_factors_scale_the_expected_counts(counts):
    counts.obs["size"] = np.where(np.arange(counts.n_obs) % 2, 0.5, 1.5)
    model = make(counts, likelihood="poisson", size_factor_key="size")
    model.train(max_epochs=1, **QUIET)
    total = model.get_normalized_expression(library_size="latent").to_numpy().sum(axis=1)
    np.testing.assert_allclose(total / total[0], counts.obs["size"] / counts.obs["size"].iloc[0], rtol=1e-3)
    assert total.sum() == pytest.approx(counts.X.sum(), rel=1e-3)


def test_misspelt_keywords_are_refused(adata):
    with pytest.raises(TypeError, match="condition_kye"):
        NeuronEdit.setup_anndata(adata, condition_kye="condition")
    model = make(adata)
    with pytest.raises(TypeError):
        model.train(max_epoch=1, **QUIET)


def test_untrained_model(adata):
    model = make(adata)
    for call in (model.get_latent_representation, model.get_normalized_expression):
        with pytest.raises(RuntimeError, match="not trained; call train"):
            call()


# looking inside ------------------------------------------------------------------------------------------------------


def test_activations_of_every_layer(model):
    names = model.module.layer_names
    widths = [model.get_activations(layer=name).shape for name in names]
    n = model.adata.n_obs
    assert widths == [(n, 32), (n, 8), (n, 32), (n, 150)]
    np.testing.assert_array_equal(model.get_latent_representation(), model.get_activations(layer="code"))
    np.testing.assert_allclose(
        model.get_activations(layer="output"), model.get_normalized_expression().to_numpy(), atol=1e-5
    )
    with pytest.raises(ValueError, match="layer 'decoder1' is not in the network .*did you mean 'decoder_1'"):
        model.get_activations(layer="decoder1")


def test_indices_in_any_order(model):
    rows = np.array([200, 3, 50])
    np.testing.assert_allclose(
        model.get_latent_representation(indices=rows), model.get_latent_representation()[rows], atol=1e-5
    )
    frame = model.get_normalized_expression(indices=rows)
    assert list(frame.index) == list(model.adata.obs_names[rows])


def test_minibatches_make_no_difference(model):
    np.testing.assert_allclose(
        model.get_latent_representation(batch_size=7), model.get_latent_representation(), atol=1e-5
    )


def test_gene_list_keeps_its_order_and_refuses_unknown_names(model):
    genes = ["gene_9", "gene_2"]
    frame = model.get_normalized_expression(gene_list=genes)
    assert list(frame.columns) == genes
    np.testing.assert_array_equal(frame, model.get_normalized_expression()[genes])
    with pytest.raises(ValueError, match="gene_list entry 'gene_999' is not in the model's features"):
        model.get_normalized_expression(gene_list=["gene_9", "gene_999"])


def test_library_size_of_counts(count_model):
    expected = count_model.get_normalized_expression(return_numpy=True)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-4)
    scaled = count_model.get_normalized_expression(library_size=1e4, return_numpy=True)
    np.testing.assert_allclose(scaled, expected * 1e4, rtol=1e-3)
    own = count_model.get_normalized_expression(library_size="latent", return_numpy=True)
    np.testing.assert_allclose(own.sum(axis=1), np.asarray(count_model.adata.X.sum(axis=1)).ravel(), rtol=1e-4)


# cells that were never registered ------------------------------------------------------------------------------------


def test_a_query_is_matched_by_name_and_left_as_it_was(model, adata):
    query = adata[:50, ::-1].copy()
    query = ad.concat(
        [query, ad.AnnData(np.ones((50, 2), np.float32), obs=query.obs[[]], var=pd.DataFrame(index=["x", "y"]))], axis=1
    )
    before = query.copy()
    expected = model.get_latent_representation(adata[:50].copy())
    np.testing.assert_allclose(model.get_latent_representation(query), expected, atol=1e-5)
    assert list(query.obs) == list(before.obs)
    assert list(query.uns) == list(before.uns)


@pytest.mark.parametrize(
    "storage",
    [
        sparse.csc_matrix,
        sparse.csr_array,
        lambda x: x.toarray(),
        lambda x: da.from_array(x.toarray(), chunks=(20, 150)),
    ],
    ids=["csc_matrix", "csr_array", "ndarray", "dask"],
)
def test_a_query_of_any_matrix(model, adata, storage):
    query = adata[:50].copy()
    expected = model.get_latent_representation(query)
    query.X = storage(query.X)
    np.testing.assert_allclose(model.get_latent_representation(query), expected, atol=1e-5)
    np.testing.assert_allclose(model.get_latent_representation(query[10:20]), expected[10:20], atol=1e-5)


def test_a_backed_query_keeps_the_order_of_indices(model, adata, tmp_path):
    adata.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    rows = np.array([200, 3, 50])
    np.testing.assert_allclose(
        model.get_latent_representation(backed, indices=rows), model.get_latent_representation(adata)[rows], atol=1e-5
    )
    frame = model.get_normalized_expression(backed, indices=rows)
    assert list(frame.index) == list(adata.obs_names[rows])


def test_queries_are_not_kept_alive(model, adata):
    registered = len(NeuronEdit._setup_adata_manager_store)
    model.get_latent_representation(adata.copy())
    assert len(NeuronEdit._setup_adata_manager_store) == registered


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, 3:].copy(), "adata lacks 3 of the model's 150 features: 'gene_1', 'gene_2', 'gene_3'"),
        (
            lambda a: ad.AnnData(a.X, var=pd.DataFrame(index=["gene_1"] * 2 + list(a.var_names[2:]))),
            "not unique: 'gene_1'",
        ),
        (lambda a: ad.AnnData(np.full(a.shape, np.nan), var=a.var), "holds NaN or infinite values"),
    ],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_bad_queries(model, adata, change, message):
    with pytest.raises(ValueError, match=message):
        model.get_latent_representation(change(adata))


# saving and loading --------------------------------------------------------------------------------------------------


def test_save_and_load_with_data(model, tmp_path):
    model.save(tmp_path / "m", save_anndata=True)
    for loaded in (
        NeuronEdit.load(tmp_path / "m", accelerator="cpu"),
        NeuronEdit.load(tmp_path / "m", adata=model.adata.copy(), accelerator="cpu"),
    ):
        assert loaded.fingerprint == model.fingerprint
        np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
        np.testing.assert_array_equal(
            loaded.predict_condition("ctrl", "stim", layer_added=None),
            model.predict_condition("ctrl", "stim", layer_added=None),
        )


def test_load_without_data(model, adata, tmp_path):
    edit = model.learn_edit("ctrl", "stim")
    model.save(tmp_path / "m")
    loaded = NeuronEdit.load(tmp_path / "m", adata=False, accelerator="cpu")
    assert loaded.fingerprint == model.fingerprint
    np.testing.assert_array_equal(
        loaded.apply_edit(edit, adata, {"cell_type": "type_4"}), model.apply_edit(edit, adata, {"cell_type": "type_4"})
    )
    with pytest.raises(ValueError, match="the model was loaded without data: learning"):
        loaded.get_latent_representation()
    with pytest.raises(ValueError, match="loaded without data; load it with adata to train"):
        loaded.train()


def test_the_output_for_counts_starts_at_the_genes_shares(adata):
    model = make(adata, likelihood="nb", layer="counts")
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, plan_kwargs={"lr": 0.0})
    share = np.asarray(adata.layers["counts"].sum(axis=0)).ravel() + 0.5
    bias = model.module.networks[0].layers["output"][0].bias.detach().numpy()
    np.testing.assert_allclose(np.exp(bias) / np.exp(bias).sum(), share / share.sum(), rtol=1e-3)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    trained = model.module.networks[0].layers["output"][0].bias.detach().numpy().copy()
    model.train(
        max_epochs=1, accelerator="cpu", enable_progress_bar=False, plan_kwargs={"lr": 0.0}
    )  # goes on from there
    np.testing.assert_array_equal(model.module.networks[0].layers["output"][0].bias.detach().numpy(), trained)


def test_counts_survive_saving(count_model, tmp_path):
    count_model.save(tmp_path / "m")
    loaded = NeuronEdit.load(tmp_path / "m", adata=count_model.adata.copy(), accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.predict_condition("ctrl", "stim", layer_added=None),
        count_model.predict_condition("ctrl", "stim", layer_added=None),
    )


def test_load_with_categories_never_seen(model, tmp_path):
    model.save(tmp_path / "m")
    other = model.adata.copy()
    del other.uns["_scvi_uuid"], other.uns["_scvi_manager_uuid"]
    other.obs["cell_type"] = other.obs["cell_type"].astype(str).replace("type_1", "new type")
    loaded = NeuronEdit.load(tmp_path / "m", adata=other, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_load_with_genes_in_another_order_keeps_them_apart(model, tmp_path):
    model.save(tmp_path / "m")
    other = model.adata[:, ::-1].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scvi-tools warns that var_names differ
        loaded = NeuronEdit.load(tmp_path / "m", adata=other, accelerator="cpu")
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation(), atol=1e-5)
    with pytest.raises(ValueError, match=r"var_names differ .*use adata\[:, model.var_names_\]"):
        loaded.train()


# the package ---------------------------------------------------------------------------------------------------------


def test_no_private_names_of_other_packages_are_imported():
    others = ("scvi", "anndata", "scanpy", "mudata", "lightning", "torch", "sklearn")
    for path in Path(scvi_neuronedit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in others:
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                assert not [name for name in names if name.startswith("_")], (path, names)
