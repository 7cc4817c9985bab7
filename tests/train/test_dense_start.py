import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from scvi.train import SaveCheckpoint

from scvi_neuronedit import SAMSVAE, datasets
from scvi_neuronedit.metrics import mask_recovery
from scvi_neuronedit.module import PerturbationModule
from scvi_neuronedit.nn import SparseShift
from scvi_neuronedit.train import DenseStart

FAST = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture
def model():
    adata = datasets.simulate_mechanism_shifts(6, 4, 20, (40, 0, 0), likelihood="nb")
    SAMSVAE.setup_anndata(adata, perturbation_key="perturbation", control="ctrl")
    return SAMSVAE(adata, n_latent=4, n_hidden=16, n_particles=1)


def test_masks_start_after_the_share_of_the_steps(model):
    # three epochs of four steps; the masks start before the seventh
    model.train(max_epochs=3, batch_size=70, dense_share=0.5, **FAST)
    active = model.history["expected_active_train"].to_numpy(float).ravel()
    assert active[0] == 1
    assert 0.45 < active[1] < 1
    assert active[2] < 0.6
    assert not model.module.shift.dense


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_it_or_with_nothing_else(model, share):
    model.train(max_epochs=2, batch_size=70, dense_share=share, **FAST)
    logits = model.module.shift.mask_logits.detach()
    assert not model.module.shift.dense
    # from the first step on they move from 0; at the end they are where they start
    assert (logits == -3).any() if share else ((logits != 0) & (logits.abs() < 1)).all()


def test_a_trained_model_keeps_its_directions(model, monkeypatch):
    model.train(max_steps=2, **FAST)
    monkeypatch.setattr(type(model.module), "start_masks", lambda self: pytest.fail("rotated again"))
    model.train(max_steps=2, **FAST)


def test_a_cut_off_training_leaves_masks(model):
    class Fails(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            raise KeyError(trainer.current_epoch)

    with pytest.raises(KeyError, match="0"):
        model.train(max_epochs=4, callbacks=[Fails()], **FAST)
    assert not model.module.shift.dense
    assert (model.module.shift.mask_logits == -3).any()


def test_a_checkpoint_of_lightning_knows_its_phase(model, tmp_path):
    class Saves(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    fresh = SAMSVAE(model.adata, n_latent=4, n_hidden=16, n_particles=1)
    model.train(max_epochs=3, batch_size=70, dense_share=0.5, callbacks=[Saves()], **FAST)
    for epoch, dense in ((0, True), (2, False)):
        state = torch.load(tmp_path / f"{epoch}.ckpt", weights_only=True)["state_dict"]
        fresh.module.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
        assert fresh.module.shift.dense is dense


def test_training_resumed_after_the_dense_phase_keeps_the_masks(model, tmp_path, monkeypatch):
    class Saves(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    fresh = SAMSVAE(model.adata, n_latent=4, n_hidden=16, n_particles=1)
    model.train(max_epochs=4, batch_size=70, dense_share=0.5, callbacks=[Saves()], **FAST)
    with monkeypatch.context() as patch:
        for name in ("start_dense", "start_masks"):
            patch.setattr(SparseShift, name, lambda *args, **kwargs: pytest.fail("masks started again"))
        fresh.train(max_epochs=4, batch_size=70, dense_share=0.5, ckpt_path=tmp_path / "2.ckpt", **FAST)
        longer = SAMSVAE(model.adata, n_latent=4, n_hidden=16, n_particles=1)
        longer.train(max_epochs=10, batch_size=70, dense_share=0.5, ckpt_path=tmp_path / "2.ckpt", **FAST)
    logits = [each.module.shift.mask_logits.detach() for each in (fresh, model)]
    torch.testing.assert_close(*logits, atol=0.02, rtol=0)  # an epoch at a low rate, with other draws


def test_a_model_saved_in_the_dense_phase_is_read_and_trained_on_as_such(model, tmp_path):
    checkpoint = SaveCheckpoint(tmp_path, "{epoch}", monitor="elbo_validation", save_top_k=-1)
    model.train(max_epochs=3, batch_size=70, train_size=0.8, dense_share=0.5, callbacks=[checkpoint], **FAST)
    loaded = SAMSVAE.load(tmp_path / "epoch=0", model.adata, accelerator="cpu")
    shift = loaded.module.shift
    assert shift.dense
    effects = loaded.get_perturbation_effects()
    assert (effects["inclusion_probability"] == 1).all()
    torch.testing.assert_close(torch.from_numpy(effects["mean"].to_numpy()), shift.effect_mean.detach().flatten())
    loaded.train(max_steps=1, **FAST)
    assert not shift.dense
    assert (shift.mask_logits < -2.9).any()


@pytest.mark.parametrize("share", [-0.1, 1.2])
def test_share_out_of_range(model, share):
    with pytest.raises(ValueError, match="dense_share=.*between 0 and 1"):
        model.train(max_steps=2, dense_share=share, **FAST)
    with pytest.raises(ValueError, match="share=0; it must be above 0"):
        DenseStart(0)


def test_masks_of_a_simulation_are_found():
    adata = datasets.simulate_mechanism_shifts(40, 6, 60, (150, 0, 0), mask_probability=0.2, random_state=1)
    SAMSVAE.setup_anndata(adata, perturbation_key="perturbation", control="ctrl")
    scvi.settings.seed = 0
    network = {"n_latent": 6, "n_hidden": 64, "n_layers": 2, "n_particles": 1}
    model = SAMSVAE(adata, mask_probability=0.2, likelihood="normal", **network)
    model.train(max_steps=1200, batch_size=256, plan_kwargs={"lr": 5e-3}, **FAST)
    effects = model.get_perturbation_effects()
    inclusion = effects.pivot(index="perturbation", columns="latent", values="inclusion_probability")
    inclusion = inclusion.loc[[f"P{t + 1}" for t in range(40)]].to_numpy()
    assert mask_recovery(inclusion, adata.uns["mask"])["average_precision"] > 0.85
    assert abs(inclusion.mean() - 0.2) < 0.06


def test_the_model_stays_what_it_was_when_turned():
    shift = SparseShift(12, 4, mask_probability=0.25, n_hidden=8)
    module = PerturbationModule(10, 12, 4, shift, n_hidden=16, n_layers=2, likelihood="normal")
    torch.nn.init.normal_(shift.effect_mean)
    x, dosage = torch.randn(30, 10), torch.eye(12)[torch.randint(12, (30,))]

    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        total = module.total_shift(dosage, shift.effect_mean[None])
        mean, _ = module.encode(x, dosage, total)
        return mean.norm(dim=-1), module.decode(mean + total, dosage, None)

    with torch.no_grad():
        before, effects = outputs(), shift.effect_mean.clone()
        module.start_masks()
        for now, was in zip(outputs(), before, strict=True):
            torch.testing.assert_close(now, was, atol=1e-4, rtol=1e-4)
    assert (shift.effect_mean - effects).abs().max() > 0.1


def test_a_pruned_layer_is_not_turned():
    shift = SparseShift(12, 4, mask_probability=0.25, n_hidden=8)
    module = PerturbationModule(10, 12, 4, shift, n_hidden=16)
    torch.nn.init.normal_(shift.effect_mean)
    torch.nn.utils.prune.l1_unstructured(module.decoder.first, "weight", amount=0.5)
    before = module.decoder.first.weight.detach().clone(), shift.effect_mean.detach().clone()
    module.start_masks()
    torch.testing.assert_close((module.decoder.first.weight.detach(), shift.effect_mean.detach()), before)
    assert (shift.mask_logits != 0).any()
