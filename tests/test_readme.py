import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore")
def test_the_example_runs_as_written(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names = {}
    exec(example, names)
    adata = names["adata"]
    query = (adata.obs["cell_type"] == "type_6").to_numpy()
    change = abs(adata.layers["predicted"] - adata.X.toarray()).max(axis=1)
    assert (change[query] > 0).all()
    assert (change[~query] == 0).all()
    assert "ctrl -> stim" in capsys.readouterr().out
