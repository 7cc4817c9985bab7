import numpy as np
import pandas as pd
import pytest

from scvi_neuronedit.datasets import ODESystem, example_network, read_trajectories
from scvi_neuronedit.datasets._trajectories import solve


def decaying(logic, gene="B"):
    return f"(({logic}) * 1 - 1 * {gene}) / 1"


def activation(x, ec50, n):
    b = (ec50**n - 1) / (2 * ec50**n - 1)
    return b * x**n / (b - 1 + x**n)


@pytest.fixture
def system():
    return ODESystem(
        {
            "A": "input gene",
            "AB-2": "input gene",
            "B": decaying("1 * fAct(A, 0.5, 1.5) * (1 - 1 * fAct(AB-2, 0.4, 1.2))"),
            "C": decaying(
                "(1 * fAct(A, 0.5, 1.5) + 1 * fAct(B, 0.6, 1.3) - 1 * fAct(A, 0.5, 1.5) * 1 * fAct(B, 0.6, 1.3))", "C"
            ),
        }
    )


def test_equations_are_what_they_say(system):
    y = np.array([[0.3, 0.9], [0.2, 0.5], [0.7, 0.1], [0.4, 0.6]])
    a, ab, b, c = y
    fa, fab, fb = activation(a, 0.5, 1.5), activation(ab, 0.4, 1.2), activation(b, 0.6, 1.3)
    expected = [np.zeros(2), np.zeros(2), fa * (1 - fab) - b, fa + fb - fa * fb - c]
    np.testing.assert_allclose(system.velocity(y), expected)


def test_activation_is_half_at_ec50_and_one_at_one():
    system = ODESystem({"A": "input gene", "B": decaying("1 * fAct(A, 0.45, 1.6)")})
    np.testing.assert_allclose(system.velocity(np.array([[0.45, 1.0, 0.0], [0.0] * 3]))[1], [0.5, 1.0, 0.0])


def test_the_network_has_signs(system):
    expected = pd.DataFrame(0, index=system.genes, columns=system.genes)
    expected.loc["A", ["B", "C"]] = 1
    expected.loc["B", "C"] = 1
    expected.loc["AB-2", "B"] = -1
    pd.testing.assert_frame_equal(system.network, expected)
    assert system.is_input.tolist() == [True, True, False, False]


def test_a_gene_may_regulate_itself():
    system = ODESystem({"A": "input gene", "B": decaying("1 * fAct(A, 0.5, 1.5) * (1 - 1 * fAct(B, 0.5, 1.5))")})
    assert system.network.loc["B", "B"] == -1


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        (decaying("1 * fAct(X, 0.5, 1.5)"), "'X'"),
        (decaying("1 * fAct(A, 0.5)"), r"something else than \(gene, EC50, n\)"),
        (decaying("__import__('os')"), "holds"),
        ("((1 * ", "cannot be read"),
    ],
)
def test_what_is_no_equation_is_refused(equation, message):
    with pytest.raises(ValueError, match=message):
        ODESystem({"A": "input gene", "B": equation})


def test_files_are_checked(tmp_path):
    (tmp_path / "a.csv").write_text("node,equation\nA,input gene\n")
    with pytest.raises(ValueError, match="no column 'eqn'"):
        ODESystem.read_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("node,eqn\nA,input gene\nA,input gene\n")
    with pytest.raises(ValueError, match="more than one equation for 'A'"):
        ODESystem.read_csv(tmp_path / "b.csv")


def test_the_example_network():
    system = example_network()
    effects = system.network.to_numpy()
    assert len(system.genes) == 30
    assert system.is_input.sum() == 8
    assert ((effects != 0).sum(), (effects < 0).sum()) == (51, 15)


def test_sim350_is_reproduced(data_dir):
    folder = data_dir / "sim350"
    system = ODESystem.read_csv(folder / "ode_system.csv")
    genes = pd.read_csv(folder / "gene_names.csv")["x"].str.removesuffix("_input").tolist()
    published = pd.read_csv(folder / "prior_noise_0.0.csv.gz", header=None).to_numpy()
    assert (system.network.loc[genes, genes].to_numpy() == published).all()
    test = read_trajectories(folder / "test_10_trajectories.csv.gz", genes)[:, system.genes]
    expected = test.X.reshape(10, 5, 350)
    values = solve(system, expected[:, 0].T.astype(float), np.array([0.0, 2, 3, 7, 9]))
    np.testing.assert_allclose(values.transpose(2, 0, 1), expected, atol=1e-5)
