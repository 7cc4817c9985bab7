import warnings

import numpy as np
import pytest

from scvi_neuronedit import Edit

TYPE_4 = {"cell_type": "type_4", "condition": "ctrl"}


@pytest.fixture(scope="module")
def edit(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.learn_edit("ctrl", "stim", "group", layers=("code", "output"))


@pytest.fixture(scope="module")
def effect(model, edit):
    return model.get_edit_effect(edit, TYPE_4, n_bootstrap=5)


def test_change_is_that_of_the_mean(model, edit, effect):
    x = model.adata.X[(model.adata.obs["cell_type"] == "type_4").to_numpy()].toarray()
    change = model.apply_edit(edit, query=TYPE_4) - x
    assert list(effect.index) == list(model.adata.var_names)
    np.testing.assert_allclose(effect["change"], change.mean(axis=0), atol=1e-4)
    same = (np.sign(change) == np.sign(change.mean(axis=0))).mean(axis=0)
    np.testing.assert_allclose(effect["share"], same, atol=0.02)


def test_intervals_are_of_students_t(effect):
    std = np.sqrt(effect["std_sampling"] ** 2 + effect["std_extrapolation"] ** 2)
    # three groups are left out: 90 % of t with 3 degrees of freedom
    np.testing.assert_allclose(effect["upper"] - effect["change"], 2.3534 * std, rtol=1e-3)
    np.testing.assert_allclose(effect["change"] - effect["lower"], 2.3534 * std, rtol=1e-3)


def test_intervals_hold_most_true_changes(simulated, effect):
    cells = simulated[simulated.obs["cell_type"] == "type_4"]
    means = [cells[cells.obs["condition"] == c].X.toarray().mean(axis=0) for c in ("ctrl", "stim")]
    true = means[1] - means[0]
    assert ((effect["lower"] <= true) & (true <= effect["upper"])).mean() > 0.8
    assert (effect["upper"] - effect["lower"]).median() < 3 * true.std() + 1


def test_same_seed_same_numbers(model, edit, effect):
    again = model.get_edit_effect(edit, TYPE_4, n_bootstrap=5)
    np.testing.assert_array_equal(again, effect)
    narrower = model.get_edit_effect(edit, TYPE_4, n_bootstrap=5, level=0.5)
    assert (narrower["upper"] <= effect["upper"]).all()


def test_edits_that_cannot_be_learnt_again(model, edit, adata):
    with pytest.raises(ValueError, match="edit must come from learn_edit, not chained"):
        model.get_edit_effect(edit >> edit.inverse(), TYPE_4)
    x = model.get_latent_representation()
    with pytest.raises(ValueError, match="edit must come from learn_edit"):
        model.get_edit_effect(Edit.learn(x, x, model=model.fingerprint), TYPE_4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = model.learn_edit("ctrl", "stim", "mean", adata=adata)
    with pytest.raises(ValueError, match="cells that are not the model's own"):
        model.get_edit_effect(other, TYPE_4)


@pytest.mark.parametrize(("argument", "value"), [("level", 1.0), ("level", 0), ("n_bootstrap", 1)])
def test_bad_arguments(model, edit, argument, value):
    with pytest.raises(ValueError, match=f"{argument}={value}"):
        model.get_edit_effect(edit, TYPE_4, **{argument: value})
