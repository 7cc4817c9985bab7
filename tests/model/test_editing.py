"""Learning and applying edits through the model class."""

import json
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch
from scipy import sparse
from sklearn.decomposition import PCA

from scvi_neuronedit import Edit, NeuronEdit
from scvi_neuronedit.benchmark import (
    CEILING,
    NeuronEditMethod,
    Task,
    leave_one_group_out,
    run_leave_one_out,
    summarize,
)
from scvi_neuronedit.edit import CellDraws, LevelDistributions, NeighborMap, composition_weights
from scvi_neuronedit.metrics import pearson_delta, prediction_scores, rank_differential_features

TYPE_4 = {"cell_type": "type_4", "condition": "ctrl"}


@pytest.fixture
def own(model):
    """A copy of the model's cells, to write to."""
    return model.adata.copy()


@pytest.fixture
def edit(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.learn_edit("ctrl", "stim", "neighbor")


def is_query(adata, condition="ctrl"):
    return ((adata.obs["cell_type"] == "type_4") & (adata.obs["condition"] == condition)).to_numpy()


# learning ------------------------------------------------------------------------------------------------------------


def test_learning_matches_the_composition_and_says_what_it_left_out(model):
    with pytest.warns(UserWarning, match="left out of learning, .*: cell_type 'type_4'"):
        edit = model.learn_edit("ctrl", "stim", method="mean")
    obs, code = model.adata.obs, model.get_latent_representation()
    taken = obs["cell_type"] != "type_4"
    source, target = ((taken & (obs["condition"] == c)).to_numpy() for c in ("ctrl", "stim"))
    weights = composition_weights(obs["cell_type"][source], obs["cell_type"][target])
    means = [np.average(code[cells], axis=0, weights=w) for cells, w in zip((source, target), weights, strict=True)]
    np.testing.assert_allclose(edit(code[:5]) - code[:5], np.tile(means[1] - means[0], (5, 1)), atol=1e-4)
    assert (edit.info["n_source"], edit.info["n_target"]) == (source.sum(), target.sum())
    assert edit.info["labels"] == ["type_1", "type_2", "type_3"]
    assert edit.model == model.fingerprint


def test_learning_without_matching_takes_every_cell(model):
    edit = model.learn_edit("ctrl", "stim", method="mean", match_labels=False)
    code, stim = model.get_latent_representation(), (model.adata.obs["condition"] == "stim").to_numpy()
    expected = code[stim].mean(axis=0) - code[~stim].mean(axis=0)
    np.testing.assert_allclose(edit(code[:1]) - code[:1], expected[None], atol=1e-4)
    assert edit.info["n_source"] == (~stim).sum()


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_the_four_forms_of_a_selection_give_the_same_edit(model):
    obs = model.adata.obs
    edits = [
        model.learn_edit(source, target, "neighbor")
        for source, target in [
            ("ctrl", "stim"),
            ({"condition": "ctrl"}, {"condition": ["stim"]}),
            ((obs["condition"] == "ctrl").to_numpy(), obs["condition"] == "stim"),
            (list(obs_names_of(obs, "ctrl")), obs_names_of(obs, "stim")),
        ]
    ]
    code = model.get_latent_representation()[:20]
    for edit in edits[1:]:
        np.testing.assert_array_equal(edit(code), edits[0](code))


def obs_names_of(obs, condition):
    return obs.index[obs["condition"] == condition]


def test_parameters_and_maps_reach_the_edit(model):
    populations = {"cell_type": "type_1"}, {"cell_type": "type_2"}
    edit = model.learn_edit(*populations, "neighbor", match_labels=False, n_neighbors=3)
    assert edit.steps[0].map.n_neighbors == 3
    edit = model.learn_edit(*populations, NeighborMap(n_neighbors=4), layers=["code", "decoder_1"], match_labels=False)
    assert [step.map.n_neighbors for step in edit.steps] == [4, 4]


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_chained_edits_of_several_layers_are_applied_one_after_the_other(model):
    there = model.learn_edit("ctrl", "stim", "percentile", layers=("code", "output"))
    back = model.learn_edit("stim", "ctrl", "percentile", layers=("code", "output"))
    adata = model.adata[is_query(model.adata)].copy()
    adata.X = model.apply_edit(there, adata, {"condition": "ctrl"})
    one_by_one = model.apply_edit(back, adata, {"condition": "ctrl"})
    np.testing.assert_allclose(model.apply_edit(there >> back, query=TYPE_4), one_by_one, atol=1e-5)
    code = model.learn_edit("ctrl", "stim", "mean")
    assert len(model._passes(code >> code)) == 1  # of the code alone, without decoding in between


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_inverse_of_several_layers_undoes_the_last_first(model):
    edit = model.learn_edit("ctrl", "stim", "mean", layers=("code", "output"), match_labels=False)
    model_adata = model.adata.copy()
    model_adata.X = model_adata.X.toarray() + 10  # so that nothing is clipped
    x = model.apply_edit(edit, model_adata, {"condition": "ctrl"})
    again = model_adata[model_adata.obs["condition"] == "ctrl"].copy()
    before, again.X = again.X.copy(), x
    undone = model.apply_edit(edit.inverse(), again, {"condition": "ctrl"})
    assert np.abs(undone - before).mean() < 0.2 * np.abs(x - before).mean()


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_each_layer_may_have_its_own_map(model):
    edit = model.learn_edit("ctrl", "stim", ["percentile", NeighborMap(n_neighbors=4)], layers=["output", "code"])
    assert [(step.layer, step.map.name) for step in edit.steps] == [("code", "neighbor"), ("output", "percentile")]
    first = model.learn_edit("ctrl", "stim", NeighborMap(n_neighbors=4))
    code = model.get_latent_representation()[:10]
    np.testing.assert_array_equal(edit(code, "code"), first(code))


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_each_later_layer_is_learnt_on_the_source_as_edited_so_far(model):
    edit = model.learn_edit("ctrl", "stim", method="mean", layers=["output", "decoder_1", "code"])
    assert edit.layers == ("code", "decoder_1", "output")
    code = model.learn_edit("ctrl", "stim", method="mean")
    obs = model.adata.obs
    taken = obs["cell_type"] != "type_4"
    source, target = ((taken & (obs["condition"] == c)).to_numpy() for c in ("ctrl", "stim"))
    weights = composition_weights(obs["cell_type"][source], obs["cell_type"][target])
    network = model.module.networks[0]
    before = network(torch_of(code(model.get_latent_representation()[source])), after="code", until="decoder_1")
    after = model.get_activations(layer="decoder_1")[target]
    shift = np.average(after, axis=0, weights=weights[1]) - np.average(before.detach(), axis=0, weights=weights[0])
    np.testing.assert_allclose(edit.steps[1].map.shift_, shift, atol=1e-4)

    so_far = Edit(edit.steps[:2], edit.model, edit.info)
    before = model.apply_edit(so_far, query=source)  # residual included
    shift = np.average(model.adata.X[target].toarray(), axis=0, weights=weights[1])
    shift = shift - np.average(before, axis=0, weights=weights[0])
    np.testing.assert_allclose(edit.steps[2].map.shift_, shift, atol=1e-4)
    after = model.apply_edit(edit, query=source)
    often_zero = model.levels_[0]
    assert 0 < often_zero.sum() < len(shift)
    np.testing.assert_allclose(after[:, ~often_zero], (before + shift).clip(0)[:, ~often_zero], atol=1e-4)
    # where zeros are frequent, which of them rise is what the edit of the code decides
    moved = np.where(before > 0, (before + shift).clip(0), 0)
    np.testing.assert_allclose(after[:, often_zero], moved[:, often_zero], atol=1e-4)


@pytest.mark.parametrize(
    ("source", "target", "kwargs", "error", "message"),
    [
        ("ctrl", "stm", {}, ValueError, r"target 'stm' is not in adata.obs\['condition'\] .*did you mean 'stim'"),
        ("ctrl", "ctrl", {}, ValueError, "source and target share .* cells; they must not overlap"),
        ("ctrl", {"cell_type": "type_1"}, {}, ValueError, "must not overlap"),
        ("ctrl", {"drug": "x"}, {}, KeyError, "target column 'drug' is not in adata.obs"),
        ("ctrl", {"cell_type": "type_4", "condition": "stim"}, {}, ValueError, "target selects no cell"),
        ("ctrl", [f"cell_{i}" for i in range(1, 5)], {"match_labels": False}, ValueError, "overlap|target has"),
        (
            {"cell_type": "type_1"},
            {"cell_type": "type_2"},
            {},
            ValueError,
            "share no value of adata.obs\\['cell_type'\\]",
        ),
        (
            "ctrl",
            "stim",
            {"layers": "cod"},
            ValueError,
            "layers entry 'cod' is not in the network .*did you mean 'code'",
        ),
        ("ctrl", "stim", {"method": "neighbour"}, ValueError, "method='neighbour' is not a known"),
        ("ctrl", "stim", {"method": ["mean"], "layers": ["code", "output"]}, ValueError, "1 entries for 2 layers"),
        (
            "ctrl",
            "stim",
            {"method": ["auto", "mean"], "layers": ["code", "output"]},
            ValueError,
            "cannot be one of several",
        ),
        ("ctrl", "stim", {"n_neighbors": 3}, TypeError, "method='auto' has no parameter 'n_neighbors'; name the map"),
        ("ctrl", "stim", {"method": "neighbor", "n_neighbor": 3}, TypeError, "no parameter 'n_neighbor'"),
        ("ctrl", "stim", {"layers": []}, ValueError, "layers is empty"),
    ],
)
@pytest.mark.filterwarnings("ignore:left out of learning")
def test_bad_populations(model, source, target, kwargs, error, message):
    with pytest.raises(error, match=message):
        model.learn_edit(source, target, **kwargs)


def test_twenty_cells_are_needed_on_each_side(model):
    stim = list(obs_names_of(model.adata.obs, "stim"))
    model.learn_edit("ctrl", stim[:20], match_labels=False)
    with pytest.raises(ValueError, match="target has 19 cells; at least 20 are needed"):
        model.learn_edit("ctrl", stim[:19], match_labels=False)
    with pytest.raises(ValueError, match="source has 19 cells; at least 20"):
        model.learn_edit(stim[:19], "ctrl", match_labels=False)


# applying ------------------------------------------------------------------------------------------------------------


def test_residual_is_kept(model, edit, adata):
    rows = np.flatnonzero(is_query(adata))
    x = adata.X[rows].toarray()
    decoded = model.get_normalized_expression(adata, indices=rows, return_numpy=True)
    code = edit(model.get_latent_representation(adata, indices=rows))
    edited = model.module.networks[0](torch_of(code), after="code").detach().numpy()
    often_zero, *levels = model.levels_
    carried = (x + edited - decoded).clip(0)
    own = (part[:, often_zero] for part in (x, decoded, edited, *CellDraws(0)(x, 2)))
    carried[:, often_zero] = LevelDistributions(*levels).carry(*own)
    found = model.apply_edit(edit, adata, TYPE_4)
    # a point on the edge of a quantile may round either way
    assert (np.abs(found - carried) > 1e-3).mean() < 1e-3
    np.testing.assert_allclose(model.apply_edit(edit, adata, TYPE_4, keep_residual=False), edited.clip(0), atol=1e-4)


def test_values_that_may_be_negative_keep_the_difference_to_what_is_decoded(adata):
    adata.X = adata.X.toarray() - 1
    NeuronEdit.setup_anndata(adata, condition_key="condition")
    model = NeuronEdit(adata, n_latent=8, hidden=(32,))
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    edit = model.learn_edit("ctrl", "stim", "mean")
    decoded = model.get_normalized_expression(return_numpy=True)
    edited = model.module.networks[0](torch_of(edit(model.get_latent_representation())), after="code").detach().numpy()
    found = model.apply_edit(edit, query=np.ones(adata.n_obs, dtype=bool))
    np.testing.assert_allclose(found, adata.X + edited - decoded, atol=1e-4)


def torch_of(array):
    return torch.from_numpy(array.astype(np.float32))


def test_strength(model, edit, adata):
    nothing = model.apply_edit(edit, adata, TYPE_4, strength=0)
    np.testing.assert_allclose(nothing, adata.X[is_query(adata)].toarray(), atol=1e-5)
    np.testing.assert_allclose(
        model.apply_edit(edit, adata, TYPE_4, strength=0.5), model.apply_edit(edit.scale(0.5), adata, TYPE_4), atol=1e-5
    )


def test_values_that_were_not_negative_stay_so_and_others_may_be(model, edit, adata):
    assert model.apply_edit(edit.scale(3), adata, TYPE_4).min() == 0
    adata.X = adata.X.toarray() - 1
    NeuronEdit.setup_anndata(adata, condition_key="condition")
    other = NeuronEdit(adata, n_latent=8, hidden=(32,))
    other.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert other.predict_condition("ctrl", "stim", layer_added=None).min() < -1


@pytest.mark.parametrize("storage", [sparse.csr_matrix, lambda x: x.toarray()], ids=["csr", "dense"])
def test_a_layer_holds_all_cells_and_nothing_else_changes(model, edit, adata, storage):
    adata.X = storage(adata.X)
    before = adata.copy()
    assert model.apply_edit(edit, adata, TYPE_4, layer_added="predicted") is None
    query, x = is_query(adata), as_dense(before.X)
    layer = as_dense(adata.layers["predicted"])
    np.testing.assert_array_equal(layer[~query], x[~query])
    np.testing.assert_array_equal(layer[query], model.apply_edit(edit, adata, TYPE_4))
    assert not np.allclose(layer[query], x[query])
    np.testing.assert_array_equal(as_dense(adata.X), x)
    assert set(adata.layers) == {*before.layers, "predicted"}
    support = adata.obs.pop("predicted_support")
    assert (support.notna() == query).all()
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert set(adata.uns) == {*before.uns, "neuronedit"}


def as_dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def test_output_follows_the_callers_cells_and_features(model, edit, adata):
    expected = pd.DataFrame(
        model.apply_edit(edit, adata, TYPE_4), index=adata.obs_names[is_query(adata)], columns=adata.var_names
    )
    rng = np.random.default_rng(1)
    shuffled = adata[rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)].copy()
    found = model.apply_edit(edit, shuffled, TYPE_4)
    frame = pd.DataFrame(found, index=shuffled.obs_names[is_query(shuffled)], columns=shuffled.var_names)
    np.testing.assert_allclose(frame.loc[expected.index, expected.columns], expected, atol=1e-5)
    names = list(expected.index[[5, 0, 3]])
    by_name = model.apply_edit(edit, shuffled, names)
    in_order = [name for name in shuffled.obs_names if name in names]
    np.testing.assert_allclose(by_name, frame.loc[in_order], atol=1e-5)


def test_features_the_model_does_not_know_stay_as_they_are(model, edit, adata):
    more = ad.AnnData(np.full((adata.n_obs, 2), 7.0, np.float32), obs=adata.obs[[]], var=pd.DataFrame(index=["x", "y"]))
    wide = ad.concat([more, adata], axis=1, merge="same")
    wide.obs = adata.obs
    found = model.apply_edit(edit, wide, TYPE_4)
    np.testing.assert_array_equal(found[:, :2], 7)
    np.testing.assert_allclose(found[:, 2:], model.apply_edit(edit, adata, TYPE_4), atol=1e-5)


def test_default_query_is_the_source_cells_not_learnt_on(model, edit, own):
    expected = model.apply_edit(edit, query=TYPE_4)
    np.testing.assert_array_equal(model.apply_edit(edit), expected)
    assert len(expected) == is_query(own).sum()
    other = own[own.obs["condition"] == "ctrl"].copy()
    assert len(model.apply_edit(edit, other)) == other.n_obs
    plain = model.learn_edit("ctrl", "stim", "neighbor", match_labels=False)
    assert len(model.apply_edit(plain)) == (own.obs["condition"] == "ctrl").sum()


def test_inverse_and_chain_through_the_model(model, edit, adata):
    both = edit >> edit.inverse()
    there = model.apply_edit(edit, adata, TYPE_4)
    back = model.apply_edit(both, adata, TYPE_4)
    x = adata.X[is_query(adata)].toarray()
    assert np.abs(back - x).mean() < 0.5 * np.abs(there - x).mean()


def test_an_edit_read_from_a_file_does_the_same(model, edit, adata, tmp_path):
    edit.save(tmp_path / "edit.npz")
    np.testing.assert_array_equal(
        model.apply_edit(Edit.load(tmp_path / "edit.npz"), adata, TYPE_4), model.apply_edit(edit, adata, TYPE_4)
    )


def test_record(model, edit, adata, tmp_path):
    model.apply_edit(edit.scale(0.8), adata, TYPE_4, layer_added="predicted", strength=0.5)
    adata.write_h5ad(tmp_path / "x.h5ad")
    record = ad.read_h5ad(tmp_path / "x.h5ad").uns["neuronedit"]["predicted"]
    assert record["model"] == model.fingerprint
    assert (record["source"], record["target"], record["query"]) == (
        "ctrl",
        "stim",
        "cell_type=type_4 & condition=ctrl",
    )
    assert (record["n_source"], record["n_target"]) == (edit.info["n_source"], edit.info["n_target"])
    assert record["n_query"] == is_query(adata).sum()
    (step,) = json.loads(record["steps"])
    assert (step["layer"], step["method"], step["strength"], step["n_neighbors"]) == ("code", "neighbor", 0.8, 50)
    assert (record["strength"], bool(record["keep_residual"]), record["layer"]) == (0.5, True, "X")
    support = model.get_edit_support(edit, TYPE_4, adata)
    assert record["support"]["mean"] == pytest.approx(support["support"].mean())
    assert record["support"]["share_unsupported"] == pytest.approx((support["support"] < 0.05).mean())
    assert record["support"]["mean_share_outside"] == pytest.approx(support["share_outside"].mean())
    assert "scvi-neuronedit" in record["versions"]


def test_existing_layers_need_overwrite(model, edit, adata):
    model.apply_edit(edit, adata, TYPE_4, layer_added="predicted")
    first = adata.layers["predicted"].copy()
    with pytest.raises(ValueError, match="layer_added='predicted' is already in adata.layers"):
        model.apply_edit(edit, adata, TYPE_4, layer_added="predicted", strength=0)
    np.testing.assert_array_equal(as_dense(adata.layers["predicted"]), as_dense(first))
    model.apply_edit(edit, adata, TYPE_4, layer_added="predicted", strength=0, overwrite=True)
    np.testing.assert_allclose(as_dense(adata.layers["predicted"]), adata.X.toarray(), atol=1e-5)


def test_views(model, edit, adata):
    view = adata[is_query(adata)]
    expected = model.apply_edit(edit, adata, TYPE_4)
    np.testing.assert_allclose(model.apply_edit(edit, view, TYPE_4), expected, atol=1e-5)
    with pytest.raises(ValueError, match="adata is a view"):
        model.apply_edit(edit, view, TYPE_4, layer_added="predicted")


def test_backed_query(model, edit, adata, tmp_path):
    adata.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    np.testing.assert_allclose(model.apply_edit(edit, backed, TYPE_4), model.apply_edit(edit, adata, TYPE_4), atol=1e-5)


def test_edits_of_another_model_are_refused(model, count_model, edit, adata):
    with pytest.raises(ValueError, match="edit was learnt by another model"):
        count_model.apply_edit(edit, adata, TYPE_4)
    with pytest.raises(TypeError, match="edit is a str; it must be an Edit"):
        model.apply_edit("edit", adata)


def test_untrained_models_are_refused(adata, edit):
    NeuronEdit.setup_anndata(adata, condition_key="condition")
    untrained = NeuronEdit(adata)
    with pytest.raises(RuntimeError, match="not trained"):
        untrained.learn_edit("ctrl", "stim")
    with pytest.raises(RuntimeError, match="not trained"):
        untrained.apply_edit(edit)


def test_nothing_is_written_when_the_query_is_bad(model, edit, adata):
    before = set(adata.layers), set(adata.uns)
    for query, message in [("stm", "did you mean 'stim'"), ({"cell_type": "type_9"}, "query 'type_9' is not in")]:
        with pytest.raises(ValueError, match=message):
            model.apply_edit(edit, adata, query, layer_added="predicted")
    with pytest.raises(ValueError, match="adata lacks 150 of the model's 150 features"):
        model.apply_edit(edit, ad.AnnData(np.zeros((3, 1)), obs=adata.obs[:3]), "ctrl", layer_added="predicted")
    assert (set(adata.layers), set(adata.uns)) == before


def test_support_by_hand(model, edit, adata):
    support = model.get_edit_support(edit, TYPE_4, adata)
    assert list(support.index) == list(adata.obs_names[is_query(adata)])
    reference, cells = edit.steps[0].source_sample, model.get_latent_representation(adata)[is_query(adata)]

    def distance(cell, others):
        return np.sort(np.linalg.norm(others - cell, axis=1))[:10].mean()

    own = [distance(cell, np.delete(reference, i, axis=0)) for i, cell in enumerate(reference)]
    expected = [np.mean(np.array(own) >= distance(cell, reference)) for cell in cells[:5]]
    np.testing.assert_allclose(support["support"][:5], expected, atol=2 / len(own))
    low, high = edit.steps[0].source_range
    np.testing.assert_allclose(support["share_outside"], ((cells < low) | (cells > high)).mean(axis=1))


def test_unsupported_queries_warn(model, edit, adata):
    adata.X = adata.X * 5
    with pytest.warns(
        UserWarning, match=r"query cells are unlike the source cells .* adata.obs\['predicted_support'\]"
    ):
        model.apply_edit(edit, adata, TYPE_4, layer_added="predicted")
    assert adata.obs["predicted_support"].mean() < 0.05


def test_a_query_of_target_cells_warns(model, edit, own):
    with pytest.warns(UserWarning, match="query cells are target cells of the edit"):
        model.apply_edit(edit, own, {"cell_type": "type_1"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x - 1, "holds negative values .* the model was trained on values without any"),
        (lambda x: x * np.nan, "holds NaN or infinite values"),
    ],
)
def test_query_values_are_checked(model, count_model, adata, change, message):
    adata.X = change(adata.X.toarray())
    for each in (model, count_model):
        with pytest.raises(ValueError, match=message):
            each.predict_condition("ctrl", "stim", TYPE_4, adata, method="mean")
        with pytest.raises(ValueError, match=message):
            each.get_normalized_expression(adata)
    assert "predicted" not in adata.layers


def test_queries_on_another_scale_warn(model, count_model, adata, counts):
    with pytest.warns(UserWarning, match="looks like counts, but the model was trained on values that are not whole"):
        model.get_latent_representation(counts)
    with pytest.warns(
        UserWarning, match="looks like values that are not whole numbers, but the model was trained on cou"
    ):
        count_model.get_latent_representation(adata)


# choosing ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_auto_takes_what_predicts_left_out_groups_best(model):
    edit = model.learn_edit("ctrl", "stim")
    table = edit.selection_
    assert table["score"].is_monotonic_increasing
    assert table.loc[table["method"] == "none", "score"].item() == 1
    (method,), (strength,) = {step.map.name for step in edit.steps}, {step.strength for step in edit.steps}
    chosen = (table["method"] == method) & (table["layers"] == ", ".join(edit.layers)) & (table["strength"] == strength)
    assert table.loc[chosen, "score"].item() < table["score"].iloc[0] + table["score_se"].max()
    assert set(table["strength"]) == {0.5, 0.75, 1.0}
    again = model.learn_edit("ctrl", "stim")
    pd.testing.assert_frame_equal(again.selection_, table)


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_auto_does_next_to_nothing_where_nothing_happens(model, rng):
    ctrl = np.flatnonzero(model.adata.obs["condition"] == "ctrl")
    half = np.zeros(model.adata.n_obs, dtype=bool)
    half[rng.permutation(ctrl)[: len(ctrl) // 2]] = True
    other = (model.adata.obs["condition"] == "ctrl").to_numpy() & ~half
    x = model.adata.X[half].toarray()
    changes = [
        np.abs(model.apply_edit(model.learn_edit(half, target), query=half) - x).mean() for target in (other, "stim")
    ]
    assert changes[0] < 0.1 * changes[1]


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_auto_within_layers(model):
    edit = model.learn_edit("ctrl", "stim", layers="decoder_1")
    assert set(edit.selection_["layers"]) <= {"", "decoder_1"}


def test_auto_of_unlabelled_cells_leaves_random_fifths_out(model):
    edit = model.learn_edit("ctrl", "stim", match_labels=False)
    assert len(edit.selection_) > 5


def test_auto_of_counts_edits_no_counts(count_model):
    edit = count_model.learn_edit("ctrl", "stim")
    assert set(edit.selection_["layers"]) <= {"", "code"}


# counts --------------------------------------------------------------------------------------------------------------


def test_edited_counts_are_counts_and_stay_sparse(count_model, counts):
    count_model.predict_condition("ctrl", "stim", {"condition": "ctrl"}, counts)
    layer = counts.layers["predicted"]
    assert isinstance(layer, sparse.csr_matrix)
    assert (layer.data == np.rint(layer.data)).all()
    assert layer.data.min() >= 0
    stim = (counts.obs["condition"] == "stim").to_numpy()
    assert (layer[stim] != counts.X[stim]).nnz == 0
    predicted, truth, control = (np.log1p(x.toarray()) for x in (layer[~stim], counts.X[stim], counts.X[~stim]))
    top = rank_differential_features(control, truth)[:30]
    assert pearson_delta(predicted[:, top], truth[:, top], control[:, top]) > 0.8


def test_edited_counts_vary_as_counts_do(count_model, counts):
    """Decoded means are too smooth; carried counts keep the variance of the data."""
    stim = (counts.obs["condition"] == "stim").to_numpy()
    truth = counts.X[stim].toarray().var(axis=0)
    ratios = {}
    for keep_residual in (True, False):
        predicted = count_model.predict_condition("ctrl", "stim", layer_added=None, keep_residual=keep_residual)
        ratios[keep_residual] = np.median(predicted.var(axis=0) / truth)
    assert 0.8 < ratios[True] < 1.25
    assert ratios[False] < 0.6


def test_counts_are_seeded(count_model):
    first, second, other = (
        count_model.predict_condition("ctrl", "stim", layer_added=None, random_state=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_counts_of_no_strength_stay_what_they_are(count_model, counts):
    edit = count_model.learn_edit("ctrl", "stim")
    found = count_model.apply_edit(edit, counts, "ctrl", strength=0)
    np.testing.assert_array_equal(found, counts.X[(counts.obs["condition"] == "ctrl").to_numpy()].toarray())


# end to end ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_predictions_beat_doing_nothing_and_lose_to_the_truth(adata):
    method = NeuronEditMethod(train={"accelerator": "cpu", "enable_progress_bar": False})
    keys = {"condition_key": "condition", "labels_key": "cell_type", "source": "ctrl", "target": "stim"}
    results = run_leave_one_out(adata, [method], min_cells=90, **keys)
    means = summarize(results)
    assert means.loc[CEILING, "edist"] < means.loc["NeuronEdit", "edist"] < 0.75
    assert means.loc["NeuronEdit", "egene_ratio"] < 0.75
    assert means.loc["NeuronEdit", "pearson_delta_deg"] > 0.7


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_kang_b_cells(data_dir):
    """Stimulated B cells of Kang et al. (2018), never seen in training, with the defaults of the class."""
    path = data_dir / "kang_ifnb.h5ad"
    if not path.exists():
        pytest.skip(f"no real data: {path} does not exist")
    adata = sc.read_h5ad(path)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000, batch_key="condition")
    adata = adata[:, adata.var["highly_variable"]].copy()
    keys = {"condition_key": "condition", "labels_key": "cell_type"}
    splits = leave_one_group_out(adata, source="ctrl", target="stim", **keys)
    (task,) = [Task(adata, split, **keys, source="ctrl", target="stim") for split in splits if split.group == "B"]
    train = {"accelerator": "cpu", "enable_progress_bar": False}
    (predicted,) = NeuronEditMethod(train=train)(task).values()
    pca = PCA(30, random_state=0).fit(adata.X.toarray())
    scores = prediction_scores(predicted, task.truth, task.control, pca)
    assert scores["edist"] < 0.25
    assert scores["egene_ratio"] < 0.45
    assert scores["r2_deg"] > 0.85
    assert scores["pearson_delta_deg"] > 0.85
    assert scores["direction"] > 0.85
