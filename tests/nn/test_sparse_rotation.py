import numpy as np
import pytest
import torch
from scipy.stats import special_ortho_group

from scvi_neuronedit.nn import sparse_rotation


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_directions_of_sparse_shifts(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    truth = (rng.random((80, 10)) < 0.15) * rng.choice([-1, 1], (80, 10)) * rng.normal(5, 0.5, (80, 10))
    shifts = truth @ special_ortho_group.rvs(10, random_state=seed) + rng.normal(0, 0.2, truth.shape)
    found = shifts @ sparse_rotation(torch.tensor(shifts)).numpy()
    match = np.abs(found).T @ np.abs(truth)
    assert sorted(match.argmax(axis=1)) == list(range(10))
    np.testing.assert_allclose(np.abs(found[:, match.argmax(axis=0)]), np.abs(truth), atol=1.2)


def test_is_orthogonal_of_the_type_given_and_leaves_lengths():
    shifts = torch.randn(20, 5, dtype=torch.float32)
    rotation = sparse_rotation(shifts, n_starts=1)
    assert rotation.dtype == torch.float32
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(5), atol=1e-5, rtol=0)
    turned = shifts @ rotation
    torch.testing.assert_close(turned.norm(dim=1), shifts.norm(dim=1))
    assert turned.abs().sum() < shifts.abs().sum()


def test_nothing_to_rotate():
    torch.testing.assert_close(sparse_rotation(torch.zeros(4, 3)), torch.eye(3))
    torch.testing.assert_close(sparse_rotation(torch.full((4, 3), torch.nan)), torch.eye(3))
