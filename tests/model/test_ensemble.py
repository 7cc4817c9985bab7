"""Several networks in one model, and the uncertainty that comes from learning an edit again."""

import numpy as np
import pytest

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.edit import Edit

KEYS = {"condition_key": "condition", "labels_key": "cell_type"}
TYPE_4 = {"cell_type": "type_4", "condition": "ctrl"}

pytestmark = pytest.mark.filterwarnings("ignore:left out of learning")


@pytest.fixture(scope="module")
def ensemble(simulated):
    held_out = (simulated.obs["cell_type"] == "type_4") & (simulated.obs["condition"] == "stim")
    train = simulated[~held_out].copy()
    NeuronEdit.setup_anndata(train, **KEYS)
    model = NeuronEdit(train, n_latent=6, hidden=(24,), n_networks=3)
    model.train(max_epochs=15, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    return model


def alone(edit, number):
    """The part of an edit that belongs to one network."""
    return Edit(tuple(step for step in edit.steps if step.layer.endswith(f"/{number}")), edit.model, edit.info)


def test_every_network_is_edited_and_the_prediction_is_their_mean(ensemble):
    edit = ensemble.learn_edit("ctrl", "stim", "percentile")
    assert edit.layers == ("code/1", "code/2", "code/3")
    predicted = ensemble.apply_edit(edit, query=TYPE_4, keep_residual=False)
    each = [ensemble.apply_edit(alone(edit, i), query=TYPE_4, keep_residual=False) for i in (1, 2, 3)]
    assert np.std(each, axis=0).max() > 0.01
    np.testing.assert_allclose(predicted, np.mean(each, axis=0), atol=1e-5)


def test_the_expression_is_edited_once_for_all_networks(ensemble):
    edit = ensemble.learn_edit("ctrl", "stim", "mean", layers=("code", "output"))
    assert edit.layers == ("code/1", "code/2", "code/3", "output")
    x, obs = ensemble.adata.X.toarray(), ensemble.adata.obs
    taken = (obs["cell_type"] != "type_4").to_numpy()
    so_far = Edit(edit.steps[:3], edit.model, edit.info)
    source = taken & (obs["condition"] == "ctrl").to_numpy()
    after = ensemble.apply_edit(edit, query=source)
    before = ensemble.apply_edit(so_far, query=source)
    moved = (before + edit.steps[3].map.shift_).clip(0)
    moved[(before == 0) & ensemble.levels_[0]] = 0
    np.testing.assert_allclose(after, moved, atol=1e-5)
    assert x.shape[1] == after.shape[1]


def test_codes_stand_side_by_side(ensemble):
    codes = [ensemble.get_activations(layer=f"code/{i}") for i in (1, 2, 3)]
    np.testing.assert_array_equal(ensemble.get_latent_representation(), np.concatenate(codes, axis=1))
    assert ensemble.get_latent_representation(indices=[]).shape == (0, 18)
    with pytest.raises(ValueError, match="layer 'code/4' is not in the network"):
        ensemble.get_activations(layer="code/4")


def test_auto_and_support_and_effect_work_with_several_networks(ensemble):
    edit = ensemble.learn_edit("ctrl", "stim")
    assert edit.selection_ is not None
    assert ensemble.get_edit_support(edit, TYPE_4)["support"].between(0, 1).all()
    effect = ensemble.get_edit_effect(edit, TYPE_4, n_bootstrap=3)
    assert (effect["std_sampling"] >= 0).all()
    assert effect["std_sampling"].max() > 0


def test_saved_and_loaded_networks_predict_the_same(ensemble, tmp_path):
    edit = ensemble.learn_edit("ctrl", "stim", "percentile")
    ensemble.save(tmp_path / "model")
    again = NeuronEdit.load(tmp_path / "model", ensemble.adata)
    np.testing.assert_array_equal(again.apply_edit(edit, query=TYPE_4), ensemble.apply_edit(edit, query=TYPE_4))


@pytest.mark.parametrize("n_networks", [0, -1])
def test_there_must_be_a_network(adata, n_networks):
    NeuronEdit.setup_anndata(adata)
    with pytest.raises(ValueError, match=f"n_networks={n_networks}; it must be at least 1"):
        NeuronEdit(adata, n_networks=n_networks)


# standard deviation of predictions -----------------------------------------------------------------------------------


def test_std_is_that_of_edits_learnt_on_bootstrap_samples(ensemble):
    edit = ensemble.learn_edit("ctrl", "stim", "mean")
    adata = ensemble.adata.copy()
    ensemble.apply_edit(edit, adata, TYPE_4, layer_added="p", std_layer_added="std", n_bootstrap=4, random_state=3)
    replicates = ensemble._replicates(edit, 4, 3, None)
    assert [again.layers for again in replicates] == [("code/1",), ("code/2",), ("code/3",), ("code/1",)]
    predictions = [
        ensemble.apply_edit(replace_model(again, edit), adata, TYPE_4, random_state=3) for again in replicates
    ]
    query = (adata.obs["cell_type"] == "type_4") & (adata.obs["condition"] == "ctrl")
    std = adata.layers["std"]
    np.testing.assert_allclose(std[query], np.std(predictions, axis=0, ddof=1), atol=1e-5)
    assert (std[~query] == 0).all()
    assert adata.uns["neuronedit"]["p"]["std_layer"] == "std"


def replace_model(again, edit):
    return Edit(again.steps, edit.model, edit.info)


def test_more_cells_make_an_edit_more_certain(model):
    edit = model.learn_edit("ctrl", "stim", "mean")
    few = np.flatnonzero(model.adata.obs["cell_type"] != "type_4")[::8]
    few = np.isin(np.arange(model.adata.n_obs), few)
    condition = model.adata.obs["condition"].to_numpy()
    small = model.learn_edit(few & (condition == "ctrl"), few & (condition == "stim"), "mean")
    adata = model.adata.copy()
    for name, each in {"all": edit, "few": small}.items():
        model.apply_edit(each, adata, TYPE_4, layer_added=name, std_layer_added=f"{name}_std")
    assert adata.layers["few_std"].mean() > 1.5 * adata.layers["all_std"].mean()


def test_std_of_counts_holds_no_noise_of_the_draw(count_model):
    edit = count_model.learn_edit("ctrl", "stim", "mean")
    adata = count_model.adata.copy()
    count_model.apply_edit(edit.scale(0), adata, TYPE_4, layer_added="same", std_layer_added="same_std")
    assert adata.layers["same_std"].max() == 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"std_layer_added": "std"}, "std_layer_added='std' is only written along with layer_added"),
        ({"layer_added": "a", "std_layer_added": "a"}, "give it another name"),
        ({"layer_added": "a", "std_layer_added": "b/c"}, "std_layer_added='b/c'; the name of a layer"),
        ({"layer_added": "a", "std_layer_added": "b", "n_bootstrap": 1}, "n_bootstrap=1; it must be at least 2"),
    ],
)
def test_bad_std_layer(model, kwargs, message):
    edit = model.learn_edit("ctrl", "stim", "mean")
    adata = model.adata.copy()
    with pytest.raises(ValueError, match=message):
        model.apply_edit(edit, adata, TYPE_4, **kwargs)
    assert set(adata.layers) == set(model.adata.layers)
