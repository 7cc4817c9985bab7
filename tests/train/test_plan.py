import numpy as np
import pytest
import scvi
from lightning.pytorch.callbacks import Callback
from scvi.model import SCVI
from scvi.train import TrainingPlan

from scvi_neuronedit.train import EpochTrainingPlan


def history(plan, adata, **kwargs):
    scvi.settings.seed = 0
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8, n_latent=3)
    model._training_plan_cls = plan
    model.train(max_epochs=3, accelerator="cpu", enable_progress_bar=False, **kwargs)
    return model.history


@pytest.mark.parametrize("kwargs", [{}, {"check_val_every_n_epoch": 1, "train_size": 0.8}], ids=["train", "validate"])
def test_same_history_as_scvi_tools(counts, kwargs):
    ours, theirs = (history(plan, counts.copy(), **kwargs) for plan in (EpochTrainingPlan, TrainingPlan))
    theirs = {name: values for name, values in theirs.items() if not name.endswith("_step")}
    assert set(theirs) - {"kl_weight", "validation"} <= set(ours) | {"train_loss_epoch"}
    for name in set(ours) & set(theirs):
        # their losses of an epoch are means over minibatches, ours over cells
        tolerance = 0.02 if name.endswith("loss") else 1e-4
        np.testing.assert_allclose(ours[name].to_numpy(float), theirs[name].to_numpy(float), rtol=tolerance)


def test_the_learning_rate_rises_and_falls_along_a_cosine(counts):
    adata = counts.copy()
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8, n_latent=3)
    model._training_plan_cls = EpochTrainingPlan
    rates = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    plan = {"lr_schedule": "cosine", "lr": 0.1}
    fast = {"accelerator": "cpu", "enable_progress_bar": False}
    model.train(max_steps=20, batch_size=64, train_size=1.0, plan_kwargs=plan, callbacks=[Watch()], **fast)
    assert len(rates) == 20
    progress = (np.arange(20) + 1) / 20
    falling = 0.05 * (1 + np.cos(np.pi * (progress - 0.1) / 0.9))
    np.testing.assert_allclose(rates, np.where(progress < 0.1, progress, falling), atol=1e-12)


def test_unknown_schedule(counts):
    with pytest.raises(ValueError, match="'linear'.*'constant', 'cosine'"):
        history(EpochTrainingPlan, counts.copy(), plan_kwargs={"lr_schedule": "linear"})
