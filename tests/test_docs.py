from pathlib import Path

import pytest

import scvi_neuronedit as ned

API = Path(__file__).parents[1] / "docs" / "api" / "index.md"


@pytest.mark.parametrize(
    "folder", ["benchmark", "data", "datasets", "edit", "metrics", "model", "module", "nn", "pl", "train"]
)
def test_every_public_name_is_documented(folder):
    listed = set(API.read_text().split())
    package = getattr(ned, folder)
    # constants are described where they are used
    names = [name for name in package.__all__ if not name.isupper() and name not in ("Perturbation", "Selection")]
    assert [name for name in names if not listed & {f"{folder}.{name}", f"edit.{name}", name}] == []


def test_no_placeholder_is_left_in_the_readme():
    readme = (API.parents[2] / "README.md").read_text()
    assert "_TABLE" not in readme
    assert "_DOCS" not in (API.parents[1] / "user_guide" / "neuron_editing.md").read_text()
