"""Learning rates of effects and of all else."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from scvi_neuronedit import CPAVAE, SAMSVAE, ConditionalVAE, SVAEPlus, datasets

FAST = {"accelerator": "cpu", "enable_progress_bar": False, "max_steps": 4}


@pytest.fixture
def make():
    adata = datasets.simulate_mechanism_shifts(6, 4, 20, (40, 0, 0), likelihood="nb")

    def make(cls, **kwargs):
        cls.setup_anndata(adata, perturbation_key="perturbation", control="ctrl")
        return cls(adata, n_latent=4, n_hidden=16, n_particles=1, **kwargs)

    return make


class Rates(Callback):
    """Learning rates at every step, and the groups of parameters they are for."""

    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        """Look."""
        groups = trainer.optimizers[0].param_groups
        self.rates.append([group["lr"] for group in groups])
        self.ids = [{id(parameter) for parameter in group["params"]} for group in groups]


@pytest.mark.parametrize(
    ("cls", "own"),
    [
        (SAMSVAE, {"effect_mean", "effect_raw_scale"}),
        (CPAVAE, {"effect_mean", "effect_raw_scale"}),
        (SVAEPlus, {"mean"}),
    ],
)
def test_effects_learn_faster_than_networks_and_masks(make, cls, own):
    model, watch = make(cls), Rates()
    plan = {"lr": 0.01, "effect_lr_factor": 4.0, "lr_schedule": "constant"}
    model.train(callbacks=[watch], plan_kwargs=plan, **FAST)
    np.testing.assert_allclose(watch.rates, [[0.01, 0.04]] * 4)
    shift = {f"shift.{name}" for name in own}
    found = {name for name, parameter in model.module.named_parameters() if id(parameter) in watch.ids[1]}
    assert found == shift
    assert len(watch.ids[0]) + len(watch.ids[1]) == len(list(model.module.parameters()))


def test_both_rates_follow_the_schedule(make):
    watch = Rates()
    make(CPAVAE).train(callbacks=[watch], **FAST)
    rates = np.array(watch.rates)
    np.testing.assert_allclose(rates[:, 1], 10 * rates[:, 0])
    assert (np.diff(rates[:, 0]) < 0).all()


def test_without_shifts_or_with_an_optimizer_of_ones_own_there_is_one_group(make):
    watch = Rates()
    make(ConditionalVAE).train(callbacks=[watch], **FAST)
    assert np.shape(watch.rates) == (4, 1)
    plan = {"optimizer": "Custom", "optimizer_creator": partial(torch.optim.SGD, lr=1e-6), "lr_schedule": "constant"}
    make(CPAVAE).train(callbacks=[watch], plan_kwargs=plan, **FAST)
    assert watch.rates[-1] == [1e-6]


@pytest.mark.parametrize("factor", [0, -1.0, np.nan])
def test_factor_out_of_range(make, factor):
    with pytest.raises(ValueError, match=f"effect_lr_factor={factor}; it must be above 0"):
        make(CPAVAE).train(plan_kwargs={"effect_lr_factor": factor}, **FAST)
