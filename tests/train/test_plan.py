import numpy as np
import pytest
import scvi
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
