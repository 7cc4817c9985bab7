import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scvi_neuronedit.data import check_obs_column, check_size_factors


def cells(**columns):
    return AnnData(np.zeros((3, 1)), obs=pd.DataFrame(columns, index=["c1", "c2", "c3"]))


def test_good_columns_pass():
    adata = cells(batch=["a", "b", "a"], size=[0.5, 1, 2])
    check_obs_column(adata, "batch_key", "batch")
    check_obs_column(adata, "batch_key", None)
    check_size_factors(adata, "size")
    check_size_factors(adata, None)


def test_unknown_column():
    with pytest.raises(KeyError, match="batch_key 'bach' is not in adata.obs .*did you mean 'batch'"):
        check_obs_column(cells(batch=["a", "b", "a"]), "batch_key", "bach")


def test_missing_values():
    with pytest.raises(ValueError, match=r"batch_key: adata.obs\['batch'\] has no value for 1 of 3 cells"):
        check_obs_column(cells(batch=["a", None, "a"]), "batch_key", "batch")


@pytest.mark.parametrize("bad", [0, -1, np.inf])
def test_size_factors_must_be_positive_and_finite(bad):
    with pytest.raises(ValueError, match=r"adata.obs\['size'\] must be positive and finite"):
        check_size_factors(cells(size=[1, 2, bad]), "size")
