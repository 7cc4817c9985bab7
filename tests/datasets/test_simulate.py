import numpy as np
import pytest

from scvi_neuronedit.datasets import simulate_conditions


def change(adata):
    """True log fold change of every cell."""
    return np.log(adata.layers["mean_stim"]) - np.log(adata.layers["mean_ctrl"])


def test_shape_and_columns():
    adata = simulate_conditions(n_cells=101, n_genes=20, n_types=3)
    assert adata.shape == (101, 20)
    assert adata.obs["condition"].value_counts().to_dict() == {"stim": 50, "ctrl": 51}
    assert set(adata.obs["cell_type"]) == {"type_1", "type_2", "type_3"}
    assert (adata.X.data == np.rint(adata.X.data)).all()


def test_counts_are_drawn_around_the_mean_of_their_condition():
    adata = simulate_conditions(n_cells=4000, n_genes=50)
    for condition in ("ctrl", "stim"):
        cells = adata[adata.obs["condition"] == condition]
        expected = cells.layers[f"mean_{condition}"].mean(axis=0)
        observed = np.asarray(cells.X.mean(axis=0)).ravel()
        error = cells.X.toarray().std(axis=0) / np.sqrt(cells.n_obs)
        assert (np.abs(observed - expected) / error).max() < 4.5
    np.testing.assert_allclose(adata.layers["mean_ctrl"].sum(axis=1), adata.layers["mean_stim"].sum(axis=1), rtol=1e-4)


def test_specificity_makes_types_differ():
    def spread(**kwargs):
        adata = simulate_conditions(n_cells=600, n_genes=200, **kwargs)
        means = [change(adata[adata.obs["cell_type"] == t]).mean(axis=0) for t in adata.obs["cell_type"].cat.categories]
        return np.std(means, axis=0).mean()

    assert spread(type_specificity=0) < 0.2 * spread(type_specificity=1)


def test_lineages_respond_alike():
    adata = simulate_conditions(n_cells=800, n_genes=300, n_types=4)
    means = np.stack([change(adata[adata.obs["cell_type"] == f"type_{k}"]).mean(axis=0) for k in (1, 2, 3, 4)])
    correlation = np.corrcoef(means)
    assert min(correlation[0, 2], correlation[1, 3]) > max(correlation[0, 1], correlation[2, 3])


def test_non_responders_do_not_respond():
    adata = simulate_conditions(n_cells=200, n_genes=50, non_responders=["type_2"])
    is_type_2 = adata.obs["cell_type"] == "type_2"
    np.testing.assert_array_equal(change(adata)[is_type_2], 0)
    assert (np.abs(change(adata)[~is_type_2]).max(axis=1) > 0.1).all()


def test_same_seed_same_bytes():
    first, second, other = (simulate_conditions(50, 20, random_state=seed) for seed in (3, 3, 4))
    assert (first.X != second.X).nnz == 0
    assert (first.X != other.X).nnz > 0


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"non_responders \['type_9'\] are not among"):
        simulate_conditions(non_responders=["type_9"])
    with pytest.raises(ValueError, match="type_specificity=1.5"):
        simulate_conditions(type_specificity=1.5)
