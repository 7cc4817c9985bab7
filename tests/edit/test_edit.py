import numpy as np
import pytest
import torch

from scvi_neuronedit.edit import Edit

INFO = {"source": "ctrl", "target": "stim", "n_source": 300, "n_target": 250}


@pytest.fixture
def source(rng):
    return rng.normal(size=(300, 4))


@pytest.fixture
def target(rng):
    return rng.gamma(2, 1, (250, 4)) + 1


@pytest.fixture(params=["percentile", "neighbor", "mean", "gaussian", "group_gaussian"])
def edit(request, source, target):
    return Edit.learn(source, target, method=request.param, model="m", info=INFO)


def test_strength_scales_the_displacement(edit, source):
    displacement = edit(source) - source
    np.testing.assert_allclose(edit.scale(0.25)(source) - source, 0.25 * displacement)
    np.testing.assert_allclose(edit.scale(0.5).scale(0.5)(source), edit.scale(0.25)(source))
    np.testing.assert_array_equal(edit.scale(0)(source), source)


def test_chain_applies_one_after_the_other(rng, edit, source, target):
    other = Edit.learn(target, rng.normal(5, 1, (100, 4)), method="percentile", model="m")
    np.testing.assert_allclose((edit >> other)(source), other(edit(source)))


def test_inverse_of_a_chain_undoes_it_in_reverse(rng, source, target):
    third = rng.normal(5, 3, (100, 4))
    chain = Edit.learn(source, target, method="gaussian") >> Edit.learn(target, third, method="mean")
    np.testing.assert_allclose(chain.inverse()(chain(source)), source, atol=1e-6)


def test_inverse_swaps_what_is_known_of_the_two_sides(source, target):
    inverse = Edit.learn(source, target, info=INFO).inverse()
    assert inverse.info == {"source": "stim", "target": "ctrl", "n_source": 250, "n_target": 300}
    assert inverse.inverse().info == INFO


def test_inverse_of_a_scaled_edit_has_the_same_strength(source, target):
    edit = Edit.learn(source, target, method="mean").scale(0.5)
    np.testing.assert_allclose(edit.inverse()(edit(source)), source)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_give_tensors(edit, source, dtype):
    edited = edit(torch.from_numpy(source).to(dtype))
    assert edited.dtype == dtype
    np.testing.assert_allclose(edited.numpy(), edit(source), atol=1e-4)


def test_integers_are_edited_as_real_numbers(edit):
    ones = np.ones((2, 4), dtype=int)
    np.testing.assert_array_equal(edit(ones), edit(ones.astype(float)))


def test_save_and_load(tmp_path, edit, source):
    path = tmp_path / "edit.npz"
    edit.scale(0.7).save(path)
    loaded = Edit.load(path)
    np.testing.assert_array_equal(loaded(source), edit.scale(0.7)(source))
    np.testing.assert_array_equal(loaded.inverse()(source), edit.scale(0.7).inverse()(source))
    assert (loaded.model, loaded.info, repr(loaded)) == ("m", INFO, repr(edit.scale(0.7)))


def test_saved_file_holds_no_pickle(tmp_path, edit):
    edit.save(tmp_path / "edit.npz")
    with np.load(tmp_path / "edit.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_load_refuses_other_files(tmp_path):
    path = tmp_path / "edit.npz"
    for content in (b"", b"not an archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"edit\.npz' is not a saved edit"):
            Edit.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(ValueError, match="is not a saved edit"):
        Edit.load(path)
    with pytest.raises(FileNotFoundError):
        Edit.load(tmp_path / "nothing.npz")


def test_steps_of_several_layers(source, target):
    code = Edit.learn(source, target, method="mean", layer="code")
    output = Edit.learn(source[:, :2], target[:, :2], method="mean", layer="output")
    both = code >> output
    assert both.layers == ("code", "output")
    np.testing.assert_array_equal(both(source, "code"), code(source))
    np.testing.assert_array_equal(both(source[:, :2], "output"), output(source[:, :2]))
    with pytest.raises(ValueError, match="layer must be named: this edit has steps at 'code', 'output'"):
        both(source)


def test_share_outside_by_hand():
    source = np.array([[0.0, 0.0], [1.0, 1.0]])
    edit = Edit.learn(source, source + 1, method="mean")
    cells = np.array([[0.5, 0.5], [2.0, 0.5], [-1.0, 2.0]])
    np.testing.assert_array_equal(edit.share_outside(cells), [0, 0.5, 1])


def test_share_outside_of_a_chain_looks_at_every_step():
    first = Edit.learn(np.array([[0.0], [1.0]]), np.array([[5.0], [6.0]]), method="mean")
    second = Edit.learn(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]), method="mean")
    np.testing.assert_array_equal((first >> second).share_outside(np.array([[0.5]])), [1])


def test_repr_says_what_it_is(source, target):
    edit = Edit.learn(source, target, method="neighbor", n_neighbors=7, info=INFO)
    assert repr(edit).startswith("Edit: ctrl -> stim, learnt on 300 and 250 cells")
    assert "'code' (4 neurons): neighbor(n_neighbors=7" in repr(edit)
    assert "strength 0.5" in repr(edit.scale(0.5))
    assert repr(edit >> edit.inverse()).startswith("Edit: (ctrl -> stim, ")
    assert "between two arrays" in repr(Edit.learn(source, target))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda edit, x: edit(x[:, :3]), "activations have 3 neurons; the edit of layer 'code' has 4"),
        (lambda edit, x: edit(x[0]), "activations has 1 dimensions"),
        (lambda edit, x: edit(np.full_like(x, np.nan)), "activations holds NaN or infinite values"),
        (lambda edit, x: edit(x, "cod"), "layer='cod' is not edited; this edit has steps at 'code'"),
        (lambda edit, x: edit.scale(np.inf), "strength=inf"),
        (lambda edit, x: edit >> Edit.learn(x, x, model="other"), "edits of different models"),
        (lambda edit, x: Edit.learn(x, x[:, :2]), "source has 4 neurons and target 2"),
        (lambda edit, x: Edit.learn(x, np.full_like(x, np.inf)), "target holds NaN or infinite values"),
    ],
)
def test_bad_input(edit, source, call, message):
    with pytest.raises(ValueError, match=message):
        call(edit, source)
