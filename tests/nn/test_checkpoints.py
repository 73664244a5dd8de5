"""Checkpoints of other people: read where they are tensors, refused in one line and never executed otherwise."""

import contextlib
import pickle
import random
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from encore.base.errors import CheckpointError
from encore.nn.checkpoints import load_state, read_state_dict


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {"weight": torch.arange(6.0).view(2, 3), "bias": torch.tensor([1.0, -1.0])}


def assert_same(state: dict[str, Tensor], due: dict[str, Tensor]) -> None:
    assert set(state) == set(due)
    assert all(state[name].equal(due[name]) for name in due)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_safetensors_and_both_forms_of_pytorch_files_are_read(tensors, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pth")
    torch.save(OrderedDict(tensors), tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.pth", "c.pt"):
        assert_same(read_state_dict(tmp_path / name), tensors)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", "model_state_dict", "net"])
def test_a_wrapped_state_dict_is_unwrapped(wrapper, tensors, tmp_path):
    torch.save({"epoch": 3, wrapper: tensors}, tmp_path / "wrapped.pth")
    assert_same(read_state_dict(tmp_path / "wrapped.pth"), tensors)


def test_wrappers_may_be_nested_and_have_tensors_beside_them(tensors, tmp_path):
    torch.save({"best": torch.tensor(0.5), "model": {"state_dict": tensors}}, tmp_path / "wrapped.pth")
    assert_same(read_state_dict(tmp_path / "wrapped.pth"), tensors)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_parallel_and_compiled_models_are_cut_off(prefix, tensors, tmp_path):
    prefixed = {prefix + name: tensor for name, tensor in tensors.items()}
    torch.save(prefixed, tmp_path / "a.pth")
    save_file(prefixed, tmp_path / "a.safetensors")
    assert_same(read_state_dict(tmp_path / "a.pth"), tensors)
    assert_same(read_state_dict(tmp_path / "a.safetensors"), tensors)


def test_a_prefix_that_only_some_names_have_is_part_of_the_name(tensors, tmp_path):
    state = {"module.weight": tensors["weight"], "bias": tensors["bias"]}
    torch.save(state, tmp_path / "a.pth")
    assert_same(read_state_dict(tmp_path / "a.pth"), state)


def test_what_is_not_a_tensor_is_left_out(tensors, tmp_path):
    torch.save({**tensors, "epoch": 3}, tmp_path / "a.pth")
    assert_same(read_state_dict(tmp_path / "a.pth"), tensors)


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    refusal(tmp_path / "absent.pth")
    refusal(tmp_path)


def test_an_incomplete_safetensors_file_is_refused(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "not a whole safetensors file" in refusal(path)


@pytest.mark.parametrize("new_form", [True, False])
def test_damaged_pytorch_files_are_refused(new_form, tensors, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=new_form)
    whole = path.read_bytes()
    for length in (0, 1, *range(2, len(whole) - 1, 29)):
        path.write_bytes(whole[:length])
        refusal(path)
    source = random.Random(0)
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(3):
            changed[source.randrange(len(changed))] = source.randrange(256)
        path.write_bytes(changed)
        with contextlib.suppress(CheckpointError):  # a changed weight cannot be seen; any other error fails here
            read_state_dict(path)


@pytest.mark.parametrize("content", [b"hello, world", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04 no archive"])
def test_other_files_are_refused(content, tmp_path):
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name)


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "a.pth")
    assert "holds no tensors by name" in refusal(tmp_path / "a.pth")
    torch.save([torch.zeros(2)], tmp_path / "b.pth")
    assert "holds no tensors by name" in refusal(tmp_path / "b.pth")


class Payload:
    """Unpickling this creates the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_payload_works_where_pickles_are_executed(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed"))).close()
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("form", ["plain pickle", "old torch file", "new torch file"])
def test_a_pickle_posing_as_a_checkpoint_is_refused_and_never_executed(form, tensors, tmp_path):
    path, trap = tmp_path / "a.pth", tmp_path / "executed"
    content = {"state_dict": tensors, "optimizer": Payload(trap)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(Payload(trap), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "new torch file")
    message = refusal(path)
    assert not trap.exists()
    assert "it was not opened" in message
    assert "open" in message.partition("(")[2]


def test_a_pickle_named_safetensors_is_refused_and_never_executed(tmp_path):
    path, trap = tmp_path / "a.safetensors", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Payload(trap)))
    refusal(path)
    assert not trap.exists()


def misfit(state: dict[str, Tensor], model: nn.Module | None = None) -> str:
    model = model if model is not None else nn.Linear(3, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_state(model, state, "x.pth")
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items()), "loaded in part"
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"x.pth does not fit {type(model).__name__}")
    return str(caught.value)


def test_every_tensor_is_loaded(tensors):
    model = nn.Linear(3, 2)
    load_state(model, tensors, "x.pth")
    assert_same(model.state_dict(), tensors)


def test_tensors_that_are_missing_left_over_or_of_another_shape_are_named(tensors):
    assert "1 missing (bias)" in misfit({"weight": tensors["weight"]})
    assert "1 left over (head.weight)" in misfit({**tensors, "head.weight": torch.zeros(2)})
    assert "1 of another shape (bias is (5,) where (2,) is due)" in misfit({**tensors, "bias": torch.zeros(5)})
    together = misfit({"weight": torch.zeros(1, 1), "other": torch.zeros(1)})
    assert all(part in together for part in ("1 of another shape", "1 missing", "1 left over"))


def test_many_names_are_cut_short(tensors):
    message = misfit({**tensors, **{f"layer{n}": torch.zeros(1) for n in range(200)}})
    assert "200 left over (layer0, layer1, layer2 …)" in message


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(value, tensors):
    tensors["bias"][1] = value
    assert "1 not finite (bias)" in misfit(tensors)


def test_a_checkpoint_without_batch_counts_loads():
    model = nn.BatchNorm2d(2)
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "num_batches_tracked"}
    load_state(model, state, "x.pth")
