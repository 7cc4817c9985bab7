import pandas as pd
import pytest
from scipy import stats

from scvi_neuronedit.metrics import latent_enrichment


def test_shared_latents_are_compared_with_gene_sets():
    names = [f"g{i}" for i in range(20)]
    probabilities = {0: [0.9] * 5 + [0.1] * 15, 1: [0.1] * 19 + [0.9]}
    effects = pd.concat(
        pd.DataFrame({"perturbation": names, "latent": latent, "inclusion_probability": p})
        for latent, p in probabilities.items()
    )
    table = latent_enrichment(effects, {"pathway": [*names[:4], "unknown"], "others": names[10:], "one": ["g1"]})
    # latent 1 and the set of one have fewer than two perturbations
    assert table[["latent", "gene_set"]].to_numpy().tolist() == [[0, "pathway"], [0, "others"]]
    assert table.loc[0, ["n_latent", "n_set", "n_both"]].tolist() == [5, 4, 4]
    expected = stats.fisher_exact([[4, 1], [0, 15]], alternative="greater").pvalue
    assert table.loc[0, "p_value"] == pytest.approx(expected)
    assert table.loc[0, "q_value"] == pytest.approx(2 * expected)
    assert table.loc[1, "p_value"] == 1


def test_nothing_to_test():
    effects = pd.DataFrame({"perturbation": ["a"], "latent": [0], "inclusion_probability": [0.1]})
    assert latent_enrichment(effects, {"pathway": ["a"]}).empty
