import warnings

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData, read_h5ad
from scipy import sparse

from scvi_neuronedit import CPAVAE, SAMSVAE, ConditionalVAE, SVAEPlus
from scvi_neuronedit.datasets import simulate_combinations
from scvi_neuronedit.metrics import average_treatment_effect, treatment_effect_scores
from scvi_neuronedit.model._perturbation import PerturbationModel

CLASSES = [SAMSVAE, CPAVAE, SVAEPlus, ConditionalVAE]
KEYS = {"perturbation_key": "perturbation", "control": "ctrl"}
SMALL = {"n_latent": 4, "n_hidden": 32, "n_particles": 1}
FAST = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def simulation() -> AnnData:
    return simulate_combinations(n_perturbations=5, n_doubles=6, n_latent=4, n_genes=40, n_cells=60, random_state=2)


@pytest.fixture
def seen(simulation) -> AnnData:
    return simulation[simulation.obs["split"] == "train"].copy()


def fit(adata: AnnData, cls: type[PerturbationModel] = SAMSVAE, max_steps: int = 20, **arguments) -> PerturbationModel:
    scvi.settings.seed = 0
    unique = {"combinations_as_unique": False} if cls is SVAEPlus else {}
    cls.setup_anndata(adata, **{**KEYS, **unique, **arguments.pop("setup", {})})
    model = cls(adata, **{**SMALL, **arguments})
    model.train(max_steps=max_steps, batch_size=128, plan_kwargs={"lr": 2e-2}, **FAST)
    return model


@pytest.fixture(scope="module")
def trained(simulation) -> dict[type, PerturbationModel]:
    """One model of each class, trained for a few seconds. Their AnnData must not be written to."""
    seen = simulation[simulation.obs["split"] == "train"]
    return {cls: fit(seen.copy(), cls, max_steps=300) for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_unseen_combinations_are_predicted(trained, simulation, cls):
    model = trained[cls]
    truth = average_treatment_effect(simulation, "perturbation", "ctrl", method="perturbseq")
    held_out = sorted(set(simulation.obs.loc[simulation.obs["split"] == "test", "perturbation"].astype(str)))
    ate = model.get_average_treatment_effect(held_out, "perturbseq", n_samples=500)
    assert treatment_effect_scores(ate, truth)["pearson"].mean() > 0.5
    parts = [*model.adata.obs["perturbation"].cat.categories[1:6]]
    ate = model.get_average_treatment_effect(parts, "perturbseq", basal="posterior", n_samples=500)
    assert treatment_effect_scores(ate, truth)["pearson"].mean() > 0.8


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("keep_residual", [True, False])
def test_cells_are_predicted_from_control_cells(trained, simulation, cls, keep_residual):
    model = trained[cls]
    predicted = model.predict_perturbation(["P1", "P2"], keep_residual=keep_residual)
    control = model.adata[model.adata.obs["perturbation"] == "ctrl"]
    assert list(predicted.obs_names) == list(control.obs_names)
    assert set(predicted.obs["perturbation"]) == {"P1+P2"}
    assert (predicted.X >= 0).all()
    assert (predicted.X == np.rint(predicted.X)).all() == keep_residual
    np.testing.assert_allclose(predicted.X.sum(), control.X.sum(), rtol=0.1)


def test_nothing_changes_under_the_cells_own_perturbation(trained):
    model = trained[SAMSVAE]
    same = model.predict_perturbation("P1", query="P1")
    query = (model.adata.obs["perturbation"] == "P1").to_numpy()
    np.testing.assert_array_equal(same.X, model.adata.X[query].toarray())


def test_a_layer_holds_the_prediction_and_all_other_cells(trained, simulation):
    model, adata = trained[SAMSVAE], simulation[::-1, ::-1].copy()
    before = adata.copy()
    assert model.predict_perturbation({"P1": 0.5}, adata, query="ctrl", layer_added="half") is None
    query = (adata.obs["perturbation"] == "ctrl").to_numpy()
    assert sparse.issparse(adata.layers["half"])
    assert abs(adata.layers["half"][~query] - adata.X[~query]).max() == 0
    predicted = model.predict_perturbation({"P1": 0.5}, adata, query="ctrl")
    np.testing.assert_array_equal(adata.layers["half"][query].toarray()[:, ::-1], predicted.X)
    assert adata.uns["neuronedit"]["half"]["perturbation"] == "P1:0.5"
    assert adata.uns["neuronedit"]["half"]["model"] == model.fingerprint
    assert abs(adata.X - before.X).max() == 0
    assert set(adata.layers) - set(before.layers) == {"half"}
    with pytest.raises(ValueError, match="layer_added='half' is already in adata.layers"):
        model.predict_perturbation("P1", adata, layer_added="half")


@pytest.mark.parametrize("cls", CLASSES)
def test_the_elbo_is_the_training_loss_and_below_the_weighted_bound(trained, cls):
    model = trained[cls]
    elbo = model.get_elbo(n=50)
    tensors = {
        "X": torch.from_numpy(model.adata.X.toarray()),
        "dosage": torch.from_numpy(model.adata.obsm["_scvi_dosage"].toarray()),
    }
    with torch.no_grad():
        losses = [model.module(tensors, loss_kwargs={"n_obs": model.adata.n_obs})[2].loss.item() for _ in range(50)]
    assert elbo == pytest.approx(-np.mean(losses), abs=0.3)
    local = elbo if cls is ConditionalVAE else elbo + model.history["kl_global_train"].iloc[-1, 0] / model.adata.n_obs
    assert local - 0.3 < model.get_iwelbo(n=5) < model.get_iwelbo(n=100)
    per_cell = model.get_iwelbo(n=5, indices=[5, 2], return_mean=False)
    assert per_cell.shape == (2,)


@pytest.mark.parametrize("cls", CLASSES)
def test_latent_variables_with_and_without_effect(trained, cls):
    model = trained[cls]
    basal = model.get_latent_representation()
    assert basal.shape == (model.adata.n_obs, 4)
    np.testing.assert_allclose(model.get_latent_representation(indices=[7, 3]), basal[[7, 3]], atol=1e-6)
    assert model.get_latent_representation(indices=[]).shape == (0, 4)
    if cls is ConditionalVAE:
        with pytest.raises(ValueError, match="perturbations do not shift the latent variables"):
            model.get_latent_representation(with_effect=True)
        return
    shift = model.get_latent_representation(with_effect=True) - basal
    mean = model.get_perturbation_effects().pivot(index="perturbation", columns="latent", values="mean")
    names = list(mean.index)
    assert names == list(model.perturbations)
    dosage = np.array([[name in label.split("+") for name in names] for label in model.adata.obs["perturbation"]])
    np.testing.assert_allclose(shift, dosage @ mean.to_numpy(), atol=1e-5)


def test_effects_have_a_probability_mean_and_sd(trained):
    effects = trained[SAMSVAE].get_perturbation_effects()
    assert list(effects.columns) == ["perturbation", "latent", "inclusion_probability", "mean", "sd"]
    assert len(effects) == 5 * 4
    assert effects["inclusion_probability"].between(0, 1).all()
    assert (trained[CPAVAE].get_perturbation_effects()["inclusion_probability"] == 1).all()
    with pytest.raises(ValueError, match="do not shift the latent variables"):
        trained[ConditionalVAE].get_perturbation_effects()


def test_samples_match_the_cells_they_stand_for(trained, simulation):
    sampled = trained[CPAVAE].sample("P1", n_cells=301, random_state=1)
    assert sampled.shape == (301, 40)
    assert set(sampled.obs["perturbation"]) == {"P1"}
    assert (sampled.X == np.rint(sampled.X)).all()
    cells = simulation[simulation.obs["perturbation"] == "P1"]
    assert np.corrcoef(sampled.X.mean(axis=0), cells.X.mean(axis=0).A1)[0, 1] > 0.8
    np.testing.assert_array_equal(sampled.X, trained[CPAVAE].sample("P1", n_cells=301, random_state=1).X)


@pytest.mark.parametrize("cls", CLASSES)
def test_saved_models_compute_the_same(trained, simulation, cls, tmp_path):
    model = trained[cls]
    model.save(tmp_path / "model")
    other = simulation[simulation.obs["perturbation"].isin(["ctrl", "P1+P2", "P1"])].copy()
    for again in (cls.load(tmp_path / "model", adata) for adata in (model.adata, other, False)):
        assert again.perturbations == model.perturbations
        predicted = again.predict_perturbation("P1+P3", other)
        np.testing.assert_array_equal(predicted.X, model.predict_perturbation("P1+P3", other).X)
        assert again.get_elbo(other, n=2) == pytest.approx(model.get_elbo(other, n=2), rel=1e-5)
    assert again.fingerprint == model.fingerprint


def test_the_history_has_the_sparsity_and_training_takes_a_set_number_of_steps(seen):
    model = fit(seen, max_steps=25)
    steps_per_epoch = -(-seen.n_obs // 128)
    assert len(model.history["active_train"]) == -(-25 // steps_per_epoch)
    assert {"expected_active_train", "kl_global_train", "elbo_train", "reconstruction_loss_train"} <= set(model.history)
    scvi.settings.seed = 0
    model = SAMSVAE(seen, **SMALL)
    model.train(max_epochs=2, batch_size=128, early_stopping=True, **FAST)
    assert len(model.history["elbo_validation"]) == 2
    assert model.n_train_ == round(0.9 * seen.n_obs)
    model = SAMSVAE(seen, **SMALL)
    model.train(max_steps=10, train_size=0.8, check_val_every_n_epoch=1, **FAST)
    assert "elbo_validation" in model.history
    assert len(model.train_indices) == model.n_train_ == round(0.8 * seen.n_obs)
    log_counts = np.log1p(seen.X[np.sort(model.train_indices)].toarray())
    np.testing.assert_allclose(model.module.input_mean, log_counts.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(model.module.input_sd, log_counts.std(axis=0), rtol=1e-3)


def test_the_same_seed_gives_the_same_model(seen):
    assert fit(seen).fingerprint == fit(seen).fingerprint


def test_models_of_the_same_cells_do_not_disturb_each_other(seen):
    SAMSVAE.setup_anndata(seen, **KEYS)
    model = SAMSVAE(seen, **SMALL)
    SVAEPlus.setup_anndata(seen, **KEYS)
    SVAEPlus(seen, **SMALL)
    assert seen.obsm["_scvi_dosage"].shape[1] > len(model.perturbations)
    model.train(max_steps=5, **FAST)
    assert np.isfinite(model.get_elbo(n=1))
    assert model.get_perturbation_effects()["perturbation"].nunique() == 5


def test_a_perturbation_without_cells_relaxes_to_the_prior(seen):
    dosages = pd.DataFrame({"P1": (seen.obs["perturbation"] == "P1").astype(float), "absent": 0.0})
    seen.obsm["dose"] = dosages
    with pytest.warns(UserWarning, match=r"fewer than 10 cells.*'absent \(0\)'"):
        SAMSVAE.setup_anndata(seen, dosage_key="dose")
    model = SAMSVAE(seen, mask_probability=0.05, guide="mean_field", **SMALL)
    model.train(max_steps=400, batch_size=64, plan_kwargs={"lr": 0.1}, **FAST)
    effects = model.get_perturbation_effects().set_index("perturbation").loc["absent"]
    np.testing.assert_allclose(effects["inclusion_probability"], 0.05, atol=0.02)
    assert not np.allclose(model.get_perturbation_effects()["inclusion_probability"], 0.05, atol=0.02)


def test_dosages_and_continuous_values_and_batches(seen, rng):
    seen.X = np.log1p(seen.X.toarray())
    seen.obs["lane"] = np.where(rng.random(seen.n_obs) < 0.5, "a", "b")
    seen.obsm["dose"] = pd.DataFrame(rng.random((seen.n_obs, 2)) * (rng.random((seen.n_obs, 2)) < 0.5), seen.obs_names)
    seen.obsm["dose"].columns = ["A", "B"]
    setup = {"perturbation_key": None, "control": None, "dosage_key": "dose", "batch_key": "lane"}
    model = fit(seen, likelihood="normal", setup=setup)
    assert model.perturbations == ("A", "B")
    predicted = model.predict_perturbation({"A": 1.5})
    assert predicted.n_obs == (seen.obsm["dose"].sum(axis=1) == 0).sum()
    assert model.get_average_treatment_effect([{"A": 0.3, "B": 1}]).index.tolist() == ["A:0.3+B"]
    with pytest.raises(ValueError, match="method='perturbseq' is for counts"):
        model.get_average_treatment_effect(method="perturbseq")
    other = seen[:50].copy()
    other.obs["lane"] = "c"
    with pytest.raises(ValueError, match="batch 'c' is not in the batches"):
        model.predict_perturbation({"A": 1.0}, other)


def test_svae_takes_combinations_as_perturbations_of_their_own(seen, simulation):
    seen_double = next(label for label in seen.obs["perturbation"].cat.categories if "+" in label)
    SVAEPlus.setup_anndata(seen, **KEYS)
    model = SVAEPlus(seen, **SMALL)
    model.train(max_steps=3, **FAST)
    assert seen_double in model.perturbations
    reverse = "+".join(reversed(seen_double.split("+")))
    first, second = (model.predict_perturbation(label).X for label in (seen_double, reverse.split("+")))
    np.testing.assert_array_equal(first, second)
    held_out = simulation.obs.loc[simulation.obs["split"] == "test", "perturbation"].iloc[0]
    with pytest.raises(ValueError, match="was not seen in training.*combinations_as_unique=False"):
        model.predict_perturbation(held_out)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"control": "control"}, ValueError, "control 'control' is not in .* did you mean 'ctrl'"),
        ({"control": None}, ValueError, "control is not given; it must be one of adata.obs"),
        ({"perturbation_key": "gene"}, KeyError, "perturbation_key 'gene' is not in adata.obs"),
        ({"perturbation_key": None}, ValueError, "pass one of them"),
        ({"dosage_key": "dose"}, ValueError, "pass one of them"),
        ({"perturbation_key": None, "dosage_key": "negative"}, ValueError, "2 negative dosages, of 'B'"),
        ({"perturbation_key": None, "dosage_key": "nan"}, ValueError, "1 NaN or infinite dosages, of 'A'"),
        ({"perturbation_key": None, "dosage_key": "no control"}, ValueError, "there is no control cell"),
        ({"batch_key": "lane"}, KeyError, "batch_key 'lane' is not in adata.obs"),
        ({"layer": "counts"}, KeyError, "layer 'counts' is not in adata.layers"),
        ({"separator": ""}, ValueError, "separator is empty"),
    ],
)
def test_bad_registrations_are_refused_and_leave_the_data_alone(seen, arguments, error, message):
    dosages = pd.DataFrame(np.zeros((seen.n_obs, 2)), seen.obs_names, ["A", "B"])
    seen.obsm["negative"], seen.obsm["nan"], seen.obsm["no control"] = dosages.copy(), dosages.copy(), dosages + 1
    seen.obsm["negative"].iloc[:2, 1] = -1
    seen.obsm["nan"].iloc[0, 0] = np.nan
    before = set(seen.obsm), set(seen.uns), set(seen.obs)
    with pytest.raises(error, match=message):
        SAMSVAE.setup_anndata(seen, **{**KEYS, **arguments})
    assert (set(seen.obsm), set(seen.uns), set(seen.obs)) == before


def test_rare_perturbations_are_named(seen):
    labels = seen.obs["perturbation"].astype(str)
    labels.iloc[:9] = "rare"
    seen.obs["perturbation"] = labels
    with pytest.warns(UserWarning, match=r"fewer than 10 cells, .*'rare \(9\)'"):
        SAMSVAE.setup_anndata(seen, **KEYS)
    labels.iloc[:10] = "rare"
    seen.obs["perturbation"] = labels
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "perturbations with fewer")
        SAMSVAE.setup_anndata(seen, **KEYS)


def test_separators_inside_names(seen):
    labels = seen.obs["perturbation"].astype(str).str.replace("P1", "HLA+A", regex=False)
    seen.obs["perturbation"] = labels
    with pytest.warns(UserWarning, match="'A', 'HLA' were only given together.*pass another separator"):
        SAMSVAE.setup_anndata(seen, **KEYS)
    seen.obs["perturbation"] = seen.obs["perturbation"].str.replace("HLA+A", "HLA+", regex=False)
    with pytest.raises(ValueError, match="has an empty part.*pass another separator"):
        SAMSVAE.setup_anndata(seen, **KEYS)


def test_requests_that_cannot_be_met(trained, simulation, seen):
    model = trained[SAMSVAE]
    for request in (model.predict_perturbation, model.sample, lambda p: model.get_average_treatment_effect([p])):
        with pytest.raises(
            ValueError, match=r"perturbation 'P9' is not in the perturbations the model was registered with"
        ):
            request(["P1", "P9"])
    with pytest.raises(ValueError, match="dosage of 'P1' is -1"):
        model.predict_perturbation({"P1": -1})
    with pytest.raises(ValueError, match="holds no control cell"):
        model.predict_perturbation("P1", simulation[simulation.obs["perturbation"] == "P2"].copy())
    stranger = seen.copy()
    stranger.obs["perturbation"] = stranger.obs["perturbation"].cat.rename_categories({"P2": "new"})
    with pytest.raises(
        ValueError, match="perturbation 'new' is not in the perturbations the model was registered with"
    ):
        model.get_latent_representation(stranger)
    with pytest.raises(ValueError, match="n=0; it must be at least 1"):
        model.get_iwelbo(n=0)
    with pytest.raises(ValueError, match="basal 'posteriour' is not in the choices .*did you mean 'posterior'"):
        model.sample("P1", basal="posteriour")
    with pytest.raises(ValueError, match="basal 'posteriour' is not in the choices .*did you mean 'posterior'"):
        model.get_average_treatment_effect(basal="posteriour")
    with pytest.raises(RuntimeError, match="not trained"):
        SAMSVAE(model.adata, **SMALL).get_elbo()
    for argument, value in (("guide", "full"), ("likelihood", "zinb")):
        with pytest.raises(ValueError, match=f"{argument} '{value}' is not in the"):
            SAMSVAE(model.adata, **{argument: value})
    with pytest.raises(ValueError, match="mask_probability=1.0; it must lie between 0 and 1"):
        SAMSVAE(model.adata, mask_probability=1.0)


@pytest.mark.parametrize("cls", CLASSES)
def test_real_doubles(data_dir, cls):
    adata = read_h5ad(data_dir / "perturb_norman.h5ad")
    held_out = adata.obs["condition"] == "KLF1+MAP2K6"
    setup = {"perturbation_key": "condition", "control": "control"}
    with pytest.warns(UserWarning, match="'HOXB9' were only given together|'PTPN9'"):
        model = fit(adata[~held_out].copy(), cls, max_steps=60, n_latent=10, setup=setup)
    predicted = model.predict_perturbation(["KLF1", "MAP2K6"])
    assert predicted.shape == ((adata.obs["condition"] == "control").sum(), 500)
    effect = model.get_average_treatment_effect(["KLF1+MAP2K6"], "perturbseq", n_samples=200)
    assert np.isfinite(effect).all(axis=None)
