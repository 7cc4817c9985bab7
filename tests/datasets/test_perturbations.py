import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scvi_neuronedit.datasets import simulate_combinations, simulate_mechanism_shifts

SMALL = {"n_perturbations": 12, "n_latent": 5, "n_genes": 20, "n_cells": (60, 10, 20)}


def test_the_simulation_is_the_one_of_the_paper():
    adata = simulate_mechanism_shifts(n_perturbations=100, n_latent=15, n_genes=60, n_cells=(30, 5, 5))
    mask, effect = adata.uns["mask"], adata.uns["effect"]
    assert mask.mean() == pytest.approx(2 / 15, abs=0.03)
    assert np.abs(effect).mean() == pytest.approx(5, abs=0.1)
    assert np.abs(effect).std() == pytest.approx(0.5, abs=0.05)
    assert (effect > 0).mean() == pytest.approx(0.5, abs=0.05)
    noise = adata.X - adata.layers["mean"]
    np.testing.assert_allclose(noise.var(axis=0), 0.2, rtol=0.15)
    np.testing.assert_allclose(adata.X.var(axis=0), 1, rtol=0.1)
    np.testing.assert_allclose(adata.obsm["basal"].std(axis=0), 1, atol=0.05)
    sizes = pd.crosstab(adata.obs["perturbation"], adata.obs["split"])
    assert (sizes[["train", "val", "test"]] == [30, 5, 5]).all(axis=None)


def test_cells_with_the_same_shift_and_basal_state_have_the_same_mean():
    adata = simulate_mechanism_shifts(**SMALL, mask_probability=0.0)
    assert not adata.uns["mask"].any()
    mean = adata.layers["mean"]
    by_label = [mean[(adata.obs["perturbation"] == name).to_numpy()].mean(axis=0) for name in ("ctrl", "P1")]
    np.testing.assert_allclose(*by_label, atol=0.5)


def test_counts_follow_their_means():
    adata = simulate_mechanism_shifts(**SMALL, likelihood="nb")
    assert sparse.issparse(adata.X)
    assert (adata.X.data == np.rint(adata.X.data)).all()
    np.testing.assert_allclose(adata.X.mean(axis=0).A1, adata.layers["mean"].mean(axis=0), rtol=0.15, atol=0.3)


@pytest.mark.parametrize("simulate", [simulate_combinations, simulate_mechanism_shifts])
def test_the_seed_decides(simulate):
    small = {"n_perturbations": 5, "n_genes": 10}
    small |= {"n_doubles": 4, "n_cells": 20} if simulate is simulate_combinations else {"n_cells": (5, 1, 1)}
    first, again, other = (simulate(**small, likelihood="normal", random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.X, again.X)
    assert not np.allclose(first.X, other.X)


def additivity(adata) -> float:
    """Correlation of the true change of doubles with the sum of the changes of their parts."""
    labels = list(adata.obs["perturbation"].cat.categories)
    effect = dict(zip(labels, adata.uns["truth"] - adata.uns["truth"][0], strict=True))
    doubles = [label for label in labels if "+" in label]
    pairs = [(effect[label], sum(effect[part] for part in label.split("+"))) for label in doubles]
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs]))


def test_doubles_are_additive_without_interaction_and_not_with_it():
    small = {"n_perturbations": 8, "n_doubles": 15, "n_genes": 60, "n_cells": 400, "likelihood": "normal"}
    assert additivity(simulate_combinations(**small)) > 0.98
    assert additivity(simulate_combinations(**small, interaction=2.0)) < 0.95


def test_doubles_are_held_out_whole():
    adata = simulate_combinations(n_perturbations=6, n_doubles=10, n_genes=10, n_cells=20, held_out=0.4)
    held_out = set(adata.obs.loc[adata.obs["split"] == "test", "perturbation"])
    assert len(held_out) == 4
    assert all("+" in label for label in held_out)
    assert not held_out & set(adata.obs.loc[adata.obs["split"] == "train", "perturbation"])
    assert (adata.obs["perturbation"] == "ctrl").sum() == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_doubles": 100}, "n_doubles=100; 15 perturbations make 0 to 105 pairs|n_doubles=100"),
        ({"held_out": 1.2}, "held_out=1.2; it must lie between 0 and 1"),
        ({"likelihood": "poisson", "n_cells": 2, "n_genes": 5}, "likelihood='poisson'; it must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_combinations(**{"n_perturbations": 10, "n_doubles": 20, **arguments})
