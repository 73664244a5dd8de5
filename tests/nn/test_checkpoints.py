"""Checkpoints are read as tensors by name, whatever wraps them, and never executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from encore.base.errors import CheckpointError
from encore.nn.checkpoints import load_state, read_state_dict

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(2)}


def test_safetensors_and_pytorch_files_give_the_same_tensors(tmp_path: Path):
    save_file(STATE, tmp_path / "a.safetensors")
    torch.save(STATE, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        read = read_state_dict(tmp_path / name)
        assert read.keys() == STATE.keys()
        assert all(torch.equal(read[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", "model_state_dict"])
def test_wrapped_state_dicts_are_unwrapped(tmp_path: Path, wrapper: str):
    torch.save({wrapper: STATE, "epoch": 3}, tmp_path / "a.pth")
    assert read_state_dict(tmp_path / "a.pth").keys() == STATE.keys()


def test_the_prefix_of_data_parallel_training_is_cut_off(tmp_path: Path):
    torch.save({f"module.{name}": tensor for name, tensor in STATE.items()}, tmp_path / "a.pth")
    assert read_state_dict(tmp_path / "a.pth").keys() == STATE.keys()


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_refused_and_never_executed(tmp_path: Path, how: str):
    path, mark = tmp_path / "a.pth", tmp_path / "executed"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"weight": _Bomb(mark)}))
    else:
        torch.save({"weight": _Bomb(mark)}, path)
    with pytest.raises(CheckpointError, match="would execute code") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_truncated_and_absent_files_are_named(tmp_path: Path, name: str):
    path = tmp_path / name
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        read_state_dict(path)
    if name.endswith("pth"):
        torch.save(STATE, path)
    else:
        save_file(STATE, path)
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=name):
            read_state_dict(path)


def test_what_holds_no_tensors_is_named(tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no tensors by name"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"weight": STATE["weight"]}, r"1 missing \(bias\)"),
        ({**STATE, "more": torch.zeros(1)}, r"1 left over \(more\)"),
        ({**STATE, "bias": torch.zeros(3)}, r"bias is \(3,\) where \(2,\) is due"),
        ({**STATE, "bias": torch.tensor([0.0, torch.nan])}, r"1 not finite \(bias\)"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_loaded(state: dict[str, torch.Tensor], says: str):
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(CheckpointError, match=says):
        load_state(model, state, "the file")
    assert torch.equal(model.weight, before)
