"""Reading `.caffemodel` files that are written byte by byte."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encore.base.errors import CheckpointError
from encore.nn.caffe import read_caffemodel
from encore.nn.checkpoints import read_state_dict

from .caffe_files import caffemodel, field, write_caffemodel

LAYERS = {
    "data": [],
    "conv1_1": [torch.randn(4, 3, 3, 3), torch.randn(4)],
    "conv1_1_bn": [torch.randn(1, 4, 1, 1), torch.randn(1, 4, 1, 1)],
}


@pytest.mark.parametrize("double", [False, True])
def test_blobs_come_back_with_their_shapes(tmp_path, double):
    state = read_state_dict(write_caffemodel(tmp_path / "net.caffemodel", LAYERS, double=double))
    assert list(state) == ["conv1_1/0", "conv1_1/1", "conv1_1_bn/0", "conv1_1_bn/1"]
    for name, tensor in state.items():
        layer, number = name.split("/")
        assert tensor.dtype == torch.float32
        assert tensor.equal(LAYERS[layer][int(number)])


def test_the_old_form_measures_blobs_by_four_lengths(tmp_path):
    state = read_caffemodel(write_caffemodel(tmp_path / "net.caffemodel", LAYERS, old=True))
    assert state["conv1_1/0"].equal(LAYERS["conv1_1"][0])
    assert state["conv1_1/1"].equal(LAYERS["conv1_1"][1].view(1, 1, 1, 4))


def test_unknown_fields_of_forks_are_skipped(tmp_path):
    unknown = field(1234, b"bn_param") + field(150, 7)
    state = read_caffemodel(write_caffemodel(tmp_path / "net.caffemodel", LAYERS, between=unknown))
    assert len(state) == 4


def test_a_truncated_file_is_refused(tmp_path):
    path = write_caffemodel(tmp_path / "net.caffemodel", LAYERS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"no whole \.caffemodel"):
        read_caffemodel(path)


def test_a_shape_that_its_values_do_not_fill_is_refused(tmp_path):
    path = tmp_path / "net.caffemodel"
    wrong = field(100, field(1, b"conv") + field(7, field(5, b"\0" * 12) + field(7, field(1, bytes([2, 2])))))
    path.write_bytes(wrong)
    with pytest.raises(CheckpointError, match=r"layer conv, blob 0: 3 values where its shape \(2, 2\) asks for 4"):
        read_caffemodel(path)


def test_a_file_without_weights_is_refused(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(field(1, b"SegNet"))
    with pytest.raises(CheckpointError, match="no layers with weights"):
        read_caffemodel(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_is_read_or_refused_but_never_a_traceback(tmp_path_factory, data):
    content = bytearray(caffemodel({"conv": [torch.ones(2, 2)]}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "net.caffemodel"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with contextlib.suppress(CheckpointError):
        assert read_caffemodel(path)
