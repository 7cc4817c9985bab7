import pytest

from scvi_neuronedit.data import match_gene_sets, read_gmt


def test_gmt_files(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("first\tabout it\ta\tb\t\n\nsecond\t\tc\n")
    assert read_gmt(path) == {"first": ["a", "b"], "second": ["c"]}
    path.write_text("first\tonly a description\n")
    with pytest.raises(ValueError, match="line 1 of"):
        read_gmt(path)
    path.write_text("x\t\ta\nx\t\tb\n")
    with pytest.raises(ValueError, match="more than one gene set 'x'"):
        read_gmt(path)


def test_genes_are_looked_up():
    sets = {"one": ["a", "b", "x", "c", "a"], "two": ["c", "d", "y"]}
    with pytest.warns(UserWarning, match="fewer than 3 genes.*'two'"):
        assert match_gene_sets(sets, list("abcd")) == {"one": ["a", "b", "c"]}
    with pytest.raises(ValueError, match="none of the 2 gene sets"):
        match_gene_sets(sets, ["A", "B"])
