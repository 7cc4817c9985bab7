"""What a cell keeps of its own when it is edited."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from lightning.pytorch.callbacks import Callback

from scvi_neuronedit import NeuronEdit

N_GENES = 20


@pytest.fixture
def rare():
    """2,000 cells of two types, 40 of type "a" stimulated: five genes rise from hardly any to a log1p of about 3."""
    rng = np.random.default_rng(0)
    condition = np.repeat(["ctrl", "stim", "ctrl"], [960, 40, 1000])
    cell_type = np.repeat(["a", "b"], 1000)
    mean = np.tile(rng.gamma(2, 1, N_GENES), (2000, 1))
    mean[cell_type == "b"] = mean[::-1][:1000, ::-1]
    mean[:, :5] = np.where(condition == "stim", 20, 0.1)[:, None]
    obs = pd.DataFrame({"condition": condition, "cell_type": cell_type}, index=[f"cell_{i}" for i in range(2000)])
    return ad.AnnData(np.log1p(rng.poisson(mean)).astype(np.float32), obs=obs)


def trained(adata, **train):
    NeuronEdit.setup_anndata(adata, condition_key="condition", labels_key="cell_type")
    model = NeuronEdit(adata, n_latent=5, hidden=(32,))
    model.train(**{"max_epochs": 20, "accelerator": "cpu", "enable_progress_bar": False, **train})
    return model


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_what_few_cells_show_is_predicted_for_all_cells_of_a_kind(rare):
    model = trained(rare, max_epochs=60)
    edit = model.learn_edit("ctrl", "stim", "mean")
    found = model.apply_edit(edit)[:, :5]  # of type "b"
    decoded = model.apply_edit(edit, keep_residual=False)[:, :5]
    assert decoded.mean() > 2.5
    assert found.mean() == pytest.approx(decoded.mean(), abs=0.25)
    assert (found > 0).mean() > 0.9


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_equal_cells_do_not_all_become_the_same(rare):
    rare.X[-1000:] = rare.X[-1]
    model = trained(rare, max_epochs=5)
    edit = model.learn_edit("ctrl", "stim", "mean").scale(0.3)
    found = model.apply_edit(edit)
    assert len(np.unique(found, axis=0)) > 500
    np.testing.assert_array_equal(found, model.apply_edit(edit, batch_size=77))


class Interruption(Callback):
    """An error in the middle of training."""

    def on_train_epoch_end(self, trainer, pl_module):
        """Fail."""
        msg = "interrupted"
        raise RuntimeError(msg)


def test_training_on_forgets_how_values_were_distributed(rare, tmp_path):
    model = trained(rare, max_epochs=2)
    first = model.levels_[1]
    model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False)
    second = model.levels_[1]
    assert np.abs(second - first).max() > 1e-3

    with pytest.raises(RuntimeError, match="interrupted"):
        model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False, callbacks=[Interruption()])
    edit = model.learn_edit("ctrl", "stim", "mean", match_labels=False)
    model.save(tmp_path / "interrupted", save_anndata=False)
    found = model.apply_edit(edit)
    assert np.abs(model.levels_[1] - second).max() > 1e-3

    model.save(tmp_path / "used", save_anndata=False)
    loaded = NeuronEdit.load(tmp_path / "used", adata=False)
    np.testing.assert_array_equal(loaded.apply_edit(edit, rare), found)
    loaded = NeuronEdit.load(tmp_path / "interrupted", adata=False)
    with pytest.raises(RuntimeError, match="as it was saved during training .* load it with adata"):
        loaded.apply_edit(edit, rare)


@pytest.mark.parametrize("likelihood", ["nb", "normal"])
def test_counts_and_values_that_may_be_negative_need_no_distributions(rare, likelihood):
    rare.X = np.rint(np.expm1(rare.X)) if likelihood == "nb" else rare.X - 1
    NeuronEdit.setup_anndata(rare, condition_key="condition", labels_key="cell_type")
    model = NeuronEdit(rare, n_latent=5, hidden=(32,), likelihood=likelihood)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    model.apply_edit(model.learn_edit("ctrl", "stim", "mean", match_labels=False))
    assert not model.levels_[0].any()


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_an_edit_of_the_expression_itself_leaves_zeros(rare):
    model = trained(rare, max_epochs=60)
    edit = model.learn_edit("ctrl", "stim", "mean", layers=["code", "output"])
    before, found = rare.X[1000:], model.apply_edit(edit)
    steady = np.arange(5, N_GENES)
    back = model.apply_edit(edit.inverse(), query=rare.obs["condition"] == "stim")  # which takes two passes
    was = rare.X[rare.obs["condition"] == "stim"]
    for x, y in ((before, found), (was, back)):
        assert (x[:, steady] == 0).mean() > 0.1
        assert (y[:, steady] == 0).mean() == pytest.approx((x[:, steady] == 0).mean(), abs=0.1)
    assert (found[found > 0] < 0.5).mean() < 0.01  # log(2) is the smallest value there is


@pytest.mark.filterwarnings("ignore:left out of learning")
def test_steps_of_a_chain_count_equal_cells_anew(rare):
    rare.X[-1000:] = rare.X[-1]
    model = trained(rare, max_epochs=5)
    edit = model.learn_edit("ctrl", "stim", "mean", layers=["code", "output"])
    query = {"cell_type": "b"}
    np.testing.assert_array_equal(
        model.apply_edit(edit.scale(0) >> edit, query=query), model.apply_edit(edit, query=query)
    )


def test_levels_are_read_off_a_bounded_sample_of_all_conditions(rare):
    model = trained(rare, max_epochs=1)
    many = ad.concat([rare] * 5)
    rows = model._sample_of_conditions(many)
    assert len(rows) == 5_000
    assert (many.obs["condition"].iloc[rows] == "stim").sum() == 200  # all of them
    assert (np.diff(rows) > 0).all()
    many.obs["condition"] = [f"c{i % 4_000}" for i in range(10_000)]
    rows = model._sample_of_conditions(many)
    counts = many.obs["condition"].iloc[rows].value_counts()
    assert (len(rows), len(counts), counts.max()) == (5_000, 4_000, 2)


def test_features_that_are_hardly_ever_zero_move_as_far_as_what_is_decoded(rare):
    rare.X = rare.X + 1
    model = trained(rare, max_epochs=5)
    assert not model.levels_[0].any()
    edit = model.learn_edit("ctrl", "stim", "mean", match_labels=False)
    rows = np.flatnonzero(rare.obs["condition"] == "ctrl")
    decoded = model.get_normalized_expression(indices=rows, return_numpy=True)
    edited = model.apply_edit(edit, keep_residual=False)
    np.testing.assert_allclose(model.apply_edit(edit), (rare.X[rows] + edited - decoded).clip(0), atol=1e-4)
