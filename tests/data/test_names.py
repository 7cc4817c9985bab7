from scvi_neuronedit.data import listed, unknown_name


def test_nearest_match():
    text = unknown_name("source", "stim2", "adata.obs['condition']", ["ctrl", "stim"])
    assert text == "source 'stim2' is not in adata.obs['condition'] ('ctrl', 'stim'); did you mean 'stim'?"


def test_no_match_and_many_names():
    text = unknown_name("source", "zzz", "there", [f"n{i}" for i in range(14)])
    assert text.endswith("'n9', ... 4 more).")
    assert listed([]) == "nothing"
    assert listed([1, 2]) == "1, 2"


def test_nearest_match_keeps_its_type():
    assert unknown_name("dose", "10", "there", [1, 100]).endswith("did you mean 100?")
