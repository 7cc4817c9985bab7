import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scvi_neuronedit.metrics import average_treatment_effect, summarize_treatment_effects, treatment_effect_scores


@pytest.fixture
def cells() -> AnnData:
    counts = sparse.csr_matrix(np.array([[1, 3], [3, 1], [8, 0], [0, 0]], dtype=np.float32))
    return AnnData(counts, obs=pd.DataFrame({"drug": ["none", "none", "A", "B"]}, index=list("abcd")))


def test_effects_are_differences_of_means(cells):
    effects = average_treatment_effect(cells, "drug", "none")
    np.testing.assert_array_equal(effects.loc["A"], [6, -2])
    np.testing.assert_array_equal(effects.loc["B"], [-2, -2])
    scaled = average_treatment_effect(cells, "drug", "none", method="perturbseq", perturbations=["A"])
    low, high, full = np.log2([2501, 7501, 10001])
    np.testing.assert_allclose(scaled.loc["A"], [full - (low + high) / 2, -(low + high) / 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"control": "nne"}, "control 'nne' is not in .* did you mean 'none'"),
        ({"perturbations": ["C"]}, "perturbation 'C' is not in"),
        ({"method": "median"}, "method 'median' is not in the methods"),
    ],
)
def test_unknown_names_are_refused(cells, arguments, message):
    with pytest.raises(ValueError, match=message):
        average_treatment_effect(cells, "drug", **{"control": "none", **arguments})


def table(values, index, columns) -> pd.DataFrame:
    return pd.DataFrame(values, index=list(index), columns=columns)


def test_scores_are_computed_by_name(rng):
    genes = [f"g{i}" for i in range(60)]
    observed = table(rng.normal(size=(2, 60)), "AB", genes)
    predicted = table([2 * observed.loc["B"], -observed.loc["A"]], "BA", genes)[genes[::-1]]
    scores = treatment_effect_scores(predicted, observed)
    assert list(scores.index) == ["A", "B"]
    np.testing.assert_allclose(scores["pearson"], [-1, 1])
    np.testing.assert_allclose(scores["pearson_top20"], [-1, 1])
    b = observed.loc["B"]
    assert scores.loc["B", "r2"] == pytest.approx(1 - (b**2).sum() / ((b - b.mean()) ** 2).sum())
    top = b[b.abs().sort_values(ascending=False).index[:20]]
    assert scores.loc["B", "r2_top20"] == pytest.approx(1 - (top**2).sum() / ((top - top.mean()) ** 2).sum())


def test_the_summary_separates_held_out_perturbations(rng):
    observed = table(rng.normal(size=(3, 30)), ["A", "B", "A+B"], range(30))
    predicted = observed.copy()
    predicted.loc["A+B"] = rng.normal(size=30)
    summary = summarize_treatment_effects(predicted, observed, held_out=["A+B"], n_top=[5])
    assert summary.loc["seen", "pearson"] == pytest.approx(1)
    assert summary.loc["seen", "pearson_pooled"] == pytest.approx(1)
    assert summary["n"].to_dict() == {"seen": 2, "held out": 1}
    expected = np.corrcoef(predicted.loc["A+B"], observed.loc["A+B"])[0, 1]
    assert summary.loc["held out", "pearson"] == pytest.approx(expected)


def test_an_effect_that_does_not_vary_has_no_score():
    observed = table([[1.0, 2.0, 3.0]], "A", range(3))
    scores = treatment_effect_scores(table([[0.0, 0.0, 0.0]], "A", range(3)), observed, n_top=[2])
    assert np.isnan(scores.loc["A", "pearson"])
    assert np.isfinite(scores.loc["A", "r2"])


def test_tables_that_share_nothing_are_refused():
    with pytest.raises(ValueError, match="share no perturbation"):
        treatment_effect_scores(table([[1.0]], "A", ["g"]), table([[1.0]], "B", ["g"]))
    with pytest.raises(ValueError, match="share no gene"):
        treatment_effect_scores(table([[1.0]], "A", ["g"]), table([[1.0]], "A", ["h"]))
