import numpy as np
import pytest
from matplotlib import pyplot as plt

from scvi_neuronedit.pl import predicted_change

QUERY, TRUTH = ({"cell_type": "type_1", "condition": condition} for condition in ("ctrl", "stim"))


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_points_are_the_changes_of_the_means(adata, tmp_path):
    x = adata.X.toarray()
    adata.layers["predicted"] = x + np.arange(adata.n_vars, dtype=np.float32)
    ax = predicted_change(adata, "predicted", QUERY, TRUTH, n_names=3, save=tmp_path / "figure.png")
    is_type_1, is_stim = adata.obs["cell_type"] == "type_1", adata.obs["condition"] == "stim"
    true = x[is_type_1 & is_stim].mean(axis=0) - x[is_type_1 & ~is_stim].mean(axis=0)
    points = ax.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], true, atol=1e-4)
    np.testing.assert_allclose(points[:, 1], np.arange(adata.n_vars), atol=1e-3)
    names = {text.get_text() for text in ax.texts}
    assert set(adata.var_names[np.argsort(-np.abs(true))[:3]]) < names
    assert f"Pearson r = {np.corrcoef(true, np.arange(adata.n_vars))[0, 1]:.2f}" in names
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_conditions_by_name_on_given_axes(adata):
    adata.layers["predicted"] = adata.X
    ax = plt.subplots()[1]
    assert predicted_change(adata, "predicted", "ctrl", "stim", condition_key="condition", title="all", ax=ax) is ax
    assert ax.get_title() == "all"


def test_unknown_layer(adata):
    with pytest.raises(KeyError, match="layer 'predicted' is not in adata.layers"):
        predicted_change(adata, "predicted", QUERY, TRUTH)
