import numpy as np
import pytest

from scvi_neuronedit.datasets import simulate_cite_seq, simulate_conditions


def test_modalities_hold_the_same_cells_and_the_truth():
    mdata = simulate_cite_seq(800, 60, 20, random_state=3)
    rna, prot = mdata["rna"], mdata["prot"]
    assert rna.obs_names.equals(prot.obs_names)
    assert (rna.X != simulate_conditions(800, 60, random_state=3).X).nnz == 0
    stimulated = (mdata.obs["condition"] == "stim").to_numpy()[:, None]
    noise = prot.X - np.where(stimulated, prot.layers["mean_stim"], prot.layers["mean_ctrl"])
    assert noise.std() == pytest.approx(0.3, abs=0.01)
    assert abs(noise.mean()) < 0.01
    # a protein changes as the gene of the same name does
    shares = {name: rna.layers[name] / rna.layers[name].sum(axis=1, keepdims=True) for name in rna.layers}
    change = np.log1p(1e4 * shares["mean_stim"]) - np.log1p(1e4 * shares["mean_ctrl"])
    change = change[:, rna.var_names.get_indexer(prot.var_names)]
    np.testing.assert_allclose(prot.layers["mean_stim"] - prot.layers["mean_ctrl"], change, atol=1e-5)
    np.testing.assert_allclose(prot.layers["mean_ctrl"].mean(axis=0), 0, atol=1e-5)


def test_same_seed_same_data():
    first, again, other = (simulate_cite_seq(100, 30, 5, random_state=seed)["prot"].X for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_too_many_proteins():
    with pytest.raises(ValueError, match="n_proteins=9; it must lie between 1 and n_genes=8"):
        simulate_cite_seq(100, 8, 9)
