import numpy as np
import pytest
from scipy.integrate import solve_ivp

from scvi_neuronedit.datasets import corrupt_prior, example_network, read_trajectories, simulate_trajectories


@pytest.fixture(scope="module")
def simulated():
    return simulate_trajectories(example_network(), 60, noise=0.1, random_state=1)


def test_trajectories_solve_the_equations(simulated):
    system = example_network()
    one = simulated[simulated.obs["trajectory"] == "trajectory_7"].layers["noise_free"]
    times = [0, 2, 3, 7, 9]
    truth = solve_ivp(
        lambda _, y: system.velocity(y[:, None])[:, 0], (0, 9), one[0].astype(float), "LSODA", times, rtol=1e-9
    )
    np.testing.assert_allclose(one, truth.y.T, atol=1e-5)
    assert simulated.obs["time"].iloc[:5].tolist() == times


def test_starts_and_noise_follow_their_laws(simulated):
    clean, inputs = simulated.layers["noise_free"], simulated.var["is_input"].to_numpy()
    assert clean.min() >= 0
    assert clean.max() <= 1
    values = clean.reshape(60, 5, 30)
    assert np.ptp(values[:, :, inputs], axis=1).max() < 1e-6  # constant in time
    noise = simulated.X - clean
    assert noise.std() == pytest.approx(0.05, rel=0.05)
    assert abs(noise.mean()) < 0.003
    # a Beta(2, 2) around the gene's own mean
    assert values[:, 0, ~inputs].std(axis=0).mean() == pytest.approx(0.05**0.5, rel=0.1)


def test_same_seed_same_values():
    first, second, other = (simulate_trajectories(example_network(), 3, noise=0.1, random_state=s) for s in (0, 0, 1))
    assert (first.X == second.X).all()
    assert (first.X != other.X).any()


def test_the_truth_comes_along(simulated):
    assert (simulated.varp["network"] == example_network().network.to_numpy()).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": (0,)}, "times="),
        ({"times": (0, 2, 1)}, "each larger than the one before"),
        ({"noise": -1}, "noise=-1"),
        ({"input_means": [0.5]}, "the system has 8 input genes"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_trajectories(example_network(), 2, **arguments)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_corrupted_prior_keeps_signs_and_numbers(share):
    truth = example_network().network
    prior = corrupt_prior(truth, share, random_state=3)
    lost = ((truth != 0) & (prior == 0)).to_numpy().sum()
    assert lost == round(share * 51)
    assert sorted(prior.to_numpy()[prior.to_numpy() != 0]) == sorted(truth.to_numpy()[truth.to_numpy() != 0])
    assert prior.index.equals(truth.index)


def test_a_share_is_a_share():
    with pytest.raises(ValueError, match=r"share=1\.5"):
        corrupt_prior(example_network().network, 1.5)


def test_files_of_trajectories_of_different_length(tmp_path):
    path = tmp_path / "trajectories.csv"
    path.write_text("2,2,\n1,2,3\n4,5,6\n0,1,2\n7,8,\n9,10,\n0.5,1.5,\n")
    adata = read_trajectories(path, ["a", "b"])
    assert adata.X.tolist() == [[1, 4], [2, 5], [3, 6], [7, 9], [8, 10]]
    assert adata.obs["time"].tolist() == [0, 1, 2, 0.5, 1.5]
    assert adata.obs["trajectory"].tolist() == ["trajectory_1"] * 3 + ["trajectory_2"] * 2
    with pytest.raises(ValueError, match="3 names"):
        read_trajectories(path, ["a", "b", "c"])
    path.write_text("2,2,\n1,2,3\n4,5,6\n0,1,2\n")
    with pytest.raises(ValueError, match="has 4 lines"):
        read_trajectories(path, ["a", "b"])
