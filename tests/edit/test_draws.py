"""Random numbers that belong to cells."""

import numpy as np

from scvi_neuronedit.edit import CellDraws


def test_a_cell_gets_the_same_numbers_in_whatever_company(rng):
    cells = rng.poisson(3, (50, 20))
    drawn = CellDraws(1)(cells, 2)
    assert drawn.shape == (2, 50, 20)
    order = rng.permutation(50)
    np.testing.assert_array_equal(CellDraws(1)(cells[order], 2), drawn[:, order])
    draws = CellDraws(1)
    parts = [draws(cells[rows].astype(float), 2) for rows in (slice(0, 7), slice(7, 50))]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), drawn)


def test_equal_cells_seeds_and_draws_differ():
    cells = np.zeros((300, 10))
    drawn = CellDraws()(cells, 2)
    assert len(np.unique(drawn)) == drawn.size
    assert not np.isin(CellDraws(1)(cells, 2), drawn).any()


def test_the_numbers_are_uniform():
    drawn = CellDraws()(np.arange(2_000.0)[:, None], 3)[:, :, 0]
    np.testing.assert_allclose(drawn.mean(axis=1), 0.5, atol=0.03)
    np.testing.assert_allclose(np.quantile(drawn, [0.1, 0.9], axis=1), [[0.1] * 3, [0.9] * 3], atol=0.03)
    assert np.abs(np.corrcoef(drawn)[np.triu_indices(3, 1)]).max() < 0.08


def test_the_cells_are_left_as_they_are(rng):
    cells = np.asfortranarray(rng.random((4, 3), dtype=np.float32))
    before = cells.copy()
    CellDraws()(cells)
    np.testing.assert_array_equal(cells, before)
