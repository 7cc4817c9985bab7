"""How many cells are trained on where nobody says."""

import pytest
import scvi
from scvi.train import SaveCheckpoint

from scvi_neuronedit import CPAVAE, NeuronEdit, datasets
from scvi_neuronedit.model._train_size import default_train_size


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 1.0),
        ({"early_stopping": False, "check_val_every_n_epoch": None, "callbacks": None}, 1.0),
        ({"early_stopping": True}, 0.9),
        ({"enable_checkpointing": True}, 0.9),
        ({"check_val_every_n_epoch": 2}, 0.9),
        ({"validation_size": 0.05}, 0.9),
    ],
)
def test_some_cells_are_left_where_they_are_looked_at(arguments, expected):
    assert default_train_size(arguments) == expected


@pytest.mark.parametrize("how", ["argument", "callback"])
def test_models_can_be_checkpointed(how, tmp_path, monkeypatch):
    monkeypatch.setattr(scvi.settings, "logging_dir", str(tmp_path))
    adata = datasets.simulate_mechanism_shifts(4, 3, 20, (30, 0, 0), likelihood="nb")
    fast = {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False}
    for cls, setup in ((CPAVAE, {"perturbation_key": "perturbation", "control": "ctrl"}), (NeuronEdit, {})):
        cls.setup_anndata(adata, **setup)
        model = cls(adata, n_latent=3, likelihood="nb")
        folder = tmp_path / cls.__name__
        saves = SaveCheckpoint(dirpath=str(folder), monitor="elbo_validation")
        kwargs = {"argument": {"enable_checkpointing": True, "checkpointing_monitor": "elbo_validation"}}
        kwargs["callback"] = {"callbacks": [saves]}
        model.train(**kwargs[how], **fast)
        assert len(model.validation_indices) == round(0.1 * adata.n_obs)
