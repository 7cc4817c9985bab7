import numpy as np

from scvi_neuronedit.datasets import simulate_batches
from scvi_neuronedit.metrics import feature_emd


def transformed(adata, layer=None):
    return np.arcsinh((adata.X if layer is None else adata.layers[layer]) / 5)


def test_layout():
    adata = simulate_batches(n_cells=30, n_markers=6)
    assert adata.shape == (240, 6)
    n_batches = adata.obs.groupby("donor", observed=True)["batch"].nunique()
    assert n_batches[["control_1", "control_2"]].tolist() == [2, 3]
    assert (n_batches.drop(["control_1", "control_2"]) == 1).all()
    assert adata.X.min() >= 0


def test_a_control_differs_between_batches_by_the_batch_effect_only():
    adata = simulate_batches(n_cells=1500)
    samples = [adata[adata.obs["sample"] == f"{batch}_control_2"] for batch in ("batch_1", "batch_3")]
    with_effect = feature_emd(*(transformed(sample) for sample in samples)).mean()
    without = feature_emd(*(transformed(sample, "without_batch") for sample in samples)).mean()
    assert without < 0.08
    assert with_effect > 0.3


def test_batch_1_has_no_effect_and_an_effect_of_0_is_none():
    adata = simulate_batches(n_cells=50)
    first = (adata.obs["batch"] == "batch_1").to_numpy()
    np.testing.assert_allclose(adata.X[first], adata.layers["without_batch"][first], rtol=1e-5)
    assert not np.allclose(adata.X[~first], adata.layers["without_batch"][~first])
    none = simulate_batches(n_cells=50, effect=0)
    np.testing.assert_allclose(none.X, none.layers["without_batch"], rtol=1e-5)


def test_same_seed_same_cells():
    np.testing.assert_array_equal(simulate_batches(20).X, simulate_batches(20).X)
    assert not np.array_equal(simulate_batches(20).X, simulate_batches(20, random_state=1).X)
