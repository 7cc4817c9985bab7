from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
import torch
from scipy.stats import wasserstein_distance

from scvi_neuronedit import NeuronEdit
from scvi_neuronedit.train import DASHPruning

GENE_SETS = Path(__file__).parents[1] / "gene_sets.gmt"
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def pruning(**kwargs):
    arguments = {"start": 2, "first": 0.8, "every": 2, "amount": 0.5, "target_sparsity": 0.9}
    return DASHPruning(0.9, **{**arguments, **kwargs})


@pytest.fixture(scope="module")
def sets(simulated):
    """The genes that rise most in stimulated cells, and two sets of others."""
    stim = (simulated.obs["condition"] == "stim").to_numpy()
    x = simulated.X.toarray()
    order = np.argsort(x[~stim].mean(axis=0) - x[stim].mean(axis=0))
    names = simulated.var_names
    return {"response": list(names[order[:10]]), "other": list(names[order[60:70]]), "third": list(names[order[80:85]])}


def create(adata, sets, layer="encoder_1", **kwargs):
    scvi.settings.seed = 0
    NeuronEdit.setup_anndata(adata, condition_key="condition", labels_key="cell_type")
    model = NeuronEdit(adata, n_latent=6, hidden=(20,), gene_programs=sets, program_layer=layer, **kwargs)
    model.train(30, batch_size=32, pruning=pruning(), **QUIET)
    return model


@pytest.fixture(scope="module", params=["encoder_1", "decoder_1"])
def model(simulated, sets, request):
    return create(simulated.copy(), sets, request.param)


def test_program_neurons_keep_their_genes_and_lose_most_others(model, sets):
    table = model.get_neuron_programs().set_index("program")
    assert list(table.index) == list(sets)
    assert (table["kept"] == 1).all()
    # a tenth of 150 genes for each of three neurons is left
    assert table["n_genes"].tolist() == [10, 10, 5]
    assert (table["n_genes"] + table["n_added"]).sum() == 45
    for name, row in table.iterrows():
        assert {gene.removeprefix("-") for gene in row["top_genes"].split(", ")} <= set(sets[name])
        assert not {gene.removeprefix("-") for gene in row["added_genes"].split(", ")} & set(sets[name])
        assert 0 < row["share_of_weight"] <= 1


def test_free_neurons_stay_dense(model):
    programs = model.module.programs
    network = model.module.networks[0]
    mask = programs.by_neuron(network, programs.linear(network).weight_mask)
    assert (mask[3:] == 1).all()
    assert mask[:3].sum() == 45


def test_the_response_is_the_program_that_moves_most(simulated, sets):
    model = create(simulated.copy(), sets)
    table = model.rank_neurons(model.learn_edit("ctrl", "stim", "mean", layers="encoder_1"))
    programs = table[table["neuron"].isin(["response", "other", "third"])]
    assert programs.iloc[0]["neuron"] == "response"
    assert programs.iloc[0]["direction"] == "up"


def test_ranks_are_those_of_the_activations(model):
    edit = model.learn_edit("ctrl", "stim", "mean", match_labels=False)
    layer = model.module.programs.layer
    table = model.rank_neurons(edit).set_index("neuron")
    assert (table["layer"] == layer).all()
    activations = model.get_activations(layer=layer)
    stim = (model.adata.obs["condition"] == "stim").to_numpy()
    for neuron, name in [(0, "response"), (7, "7")]:
        source, target = activations[~stim, neuron], activations[stim, neuron]
        sd = source.std() if source.std() > 1e-8 else 1.0
        assert table.loc[name, "emd"] == pytest.approx(wasserstein_distance(source, target) / sd, rel=1e-3, abs=1e-6)
        assert table.loc[name, "shift"] == pytest.approx((target.mean() - source.mean()) / sd, rel=1e-3, abs=1e-5)
    assert table["emd"].is_monotonic_decreasing


def test_top_genes_are_what_the_neuron_changes(model):
    edit = model.learn_edit("ctrl", "stim", "mean", match_labels=False)
    table = model.rank_neurons(edit, layer="code", n_top_genes=3)
    first = table.iloc[0]
    network = model.module.networks[0]
    z = model.get_activations()
    ctrl = (model.adata.obs["condition"] == "ctrl").to_numpy()
    base, neuron = z[ctrl].mean(axis=0), int(first["neuron"])
    moved = base.copy()
    moved[neuron] = z[~ctrl].mean(axis=0)[neuron]
    with torch.inference_mode():
        change = (
            network(torch.from_numpy(moved), after="code") - network(torch.from_numpy(base), after="code")
        ).numpy()
    expected = np.argsort(-np.abs(change))[:3]
    names = [("-" if change[i] < 0 else "") + model.var_names_[i] for i in expected]
    assert first["top_genes"] == ", ".join(names)


def test_programs_survive_saving(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = NeuronEdit.load(tmp_path / "model", model.adata, accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.get_neuron_programs(), model.get_neuron_programs())
    assert loaded.fingerprint == model.fingerprint


def test_every_network_has_the_programs(adata, sets):
    model = create(adata, sets, n_networks=2)
    assert model.get_neuron_programs()["layer"].tolist() == ["encoder_1/1"] * 3 + ["encoder_1/2"] * 3
    edit = model.learn_edit("ctrl", "stim", "mean")
    assert model.rank_neurons(edit)["neuron"].value_counts()["response"] == 2


def test_models_without_programs(adata):
    NeuronEdit.setup_anndata(adata, condition_key="condition")
    model = NeuronEdit(adata, n_latent=4, hidden=(8,))
    model.train(1, **QUIET)
    pd.testing.assert_frame_equal(model.get_neuron_programs(n_top_genes=3), model.get_neuron_modules(n_genes=3))
    assert len(model.rank_neurons(model.learn_edit("ctrl", "stim", "mean"))) == 4
    model = NeuronEdit(adata, n_latent=4, hidden=(8,), n_networks=2)
    model.train(1, **QUIET)
    table = model.rank_neurons(model.learn_edit("ctrl", "stim", "mean"))
    assert table["layer"].value_counts().to_dict() == {"code/1": 4, "code/2": 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"program_layer": "code"}, r"program_layer 'code' is not in the layers next to the genes"),
        ({"hidden": (2,)}, "has 3 gene sets, but layer 'encoder_1' only 2 neurons"),
        ({"gene_programs": {"x": ["a", "b", "c"]}}, "none of the 1 gene sets"),
    ],
)
def test_bad_programs_are_refused(adata, sets, arguments, message):
    NeuronEdit.setup_anndata(adata)
    with pytest.raises(ValueError, match=message):
        NeuronEdit(adata, **{"gene_programs": sets, "hidden": (8,), **arguments})


def test_the_interferon_program_leads_the_interferon_edit(data_dir):
    adata = sc.read_h5ad(data_dir / "kang_ifnb.h5ad")
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=1000, batch_key="condition")
    in_sets = {gene for line in GENE_SETS.read_text().splitlines() for gene in line.split("\t")[2:]}
    adata = adata[:, adata.var["highly_variable"] | adata.var_names.isin(in_sets)].copy()
    NeuronEdit.setup_anndata(adata, condition_key="condition", labels_key="cell_type")
    model = NeuronEdit(adata, gene_programs=GENE_SETS)
    model.train(20, pruning=pruning(first=0.9, target_sparsity=0.95), **QUIET)
    assert (model.get_neuron_programs()["kept"] == 1).all()
    edit = model.learn_edit("ctrl", "stim", "mean", layers="encoder_1")
    table = model.rank_neurons(edit)
    assert len(table) == 256
    assert table.iloc[0][["neuron", "direction"]].tolist() == ["interferon", "up"]
    assert {"ISG15", "IFI6", "IFIT3"} & set(table.iloc[0]["top_genes"].split(", "))
    others = table.set_index("neuron").loc[["inflammation", "ribosome", "cell_cycle"], "emd"]
    assert table["emd"].iloc[0] > 2 * others.max()
