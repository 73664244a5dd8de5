"""Questions as a user asks them, in Python and on the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from encore.base.errors import InputError
from encore.base.runtime import Runtime
from encore.papers.pdlt.questions import QUESTIONS
from encore.results.questions import Answer
from encore.verbs.ask import ask

HERE = "tests.papers.pdlt.my_networks"


def asked(question: str, **keys: Any) -> Answer:
    return ask("pdlt", question, keys)


@pytest.mark.parametrize("question", [name for name in QUESTIONS if name != "network"])
def test_every_question_has_an_answer_without_keys(question: str):
    answer = asked(question)
    assert answer.text.endswith((".", "notes")) or answer.rows
    json.dumps(answer.as_json(), allow_nan=False)


def test_every_key_is_explained():
    for question in QUESTIONS.values():
        assert question.text.endswith("?")
        assert all(field.description for field in question.parameters.model_fields.values())


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        ("relu", "scale-invariant"),
        ("tanh", "K*=0"),
        ("gelu", "half-stable"),
        ("sigmoid", "none"),
        ("monomial_3", "none"),
    ],
)
def test_activations_are_told_their_class(activation: str, kind: str):
    assert asked("universality-class", activation=activation).values["class"] == kind


def test_a_users_activation_is_imported():
    answer = asked("critical-point", activation=f"{HERE}:sine_and_cube", width=30)
    assert answer.values["C_W"] == pytest.approx(1)
    assert answer.values["C_W at this width"] == pytest.approx(1 + 2 / 90)


def test_initialisation_of_a_shape_and_of_a_module():
    rows = asked("initialise", activation="relu", widths=[100, 50, 10]).values["layers"]
    assert [row["σ of weights"] for row in rows] == pytest.approx([math.sqrt(2 / 100), math.sqrt(2 / 50)])
    rows = asked("initialise", network=f"{HERE}:perceptron").values["layers"]
    assert [(row["fan_in"], row["C_W"]) for row in rows] == [(20, 1.0), (30, 1.0)]


def test_learning_rates_fall_with_the_layer_for_tanh_biases():
    rows = asked("learning-rates", activation="tanh", width=50, depth=4).values["layers"]
    assert [row["biases"] for row in rows] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert [row["weights"] for row in rows] == pytest.approx([1 / 784, 1 / 50, 1 / 50, 1 / 50])


def test_depth_that_a_width_carries():
    values = asked("depth", activation="relu", width=1000, depth=30, outputs=10).values
    assert values["optimal_ratio"] == pytest.approx(0.016)
    assert values["optimal_depth"] == pytest.approx(16)
    assert values["fluctuation"] == pytest.approx(5 * 0.03)


def test_kernels_are_predicted_and_measured(tmp_path: Path):
    answer = ask("pdlt", "kernel", {"width": 40, "depth": 4, "networks": 300}, out=tmp_path / "answer")
    last = answer.values["layers"][-1]
    for predicted, name in ((last["mean_square"], "mean_square"), (last["theta"], "tangent_kernel")):
        measured, error = last["measured"][name]
        assert abs(measured - predicted) < 5 * error + 0.02 * predicted
    assert "±" in answer.rows[-1]["mean Ĥ"]
    assert Image.open(answer.pictures[0]).width > 800
    assert json.loads((tmp_path / "answer" / "answer.json").read_text())["values"]["C_W"] == 1


def test_a_users_network_is_measured_beside_theory():
    answer = asked("network", network=f"{HERE}:perceptron", activation="tanh", input_shape=[20], networks=200)
    last = answer.rows[-1]
    measured, _, error = str(last["mean z²"]).partition(" ± ")
    assert abs(float(measured) - last["theory: mean z²"]) < 5 * float(error)
    assert len(answer.values["layers"]) == 2


def test_skip_connections_name_odd_correlations():
    assert asked("residual", activation="relu").values["odd_correlations"]
    assert not asked("residual", activation="tanh").values["odd_correlations"]


@pytest.mark.parametrize(
    ("question", "keys", "said"),
    [
        ("critical-point", {"activation": "softplus"}, "no critical point"),
        ("critical-point", {"activation": "tanhh"}, "did you mean"),
        ("critical-point", {"activation": f"{HERE}:nothing"}, "cannot be imported"),
        ("residual", {"skip": 1.0}, "cannot be critical"),
        ("residual", {"activation": "gelu"}, "half-stable"),
        ("learning-rates", {"activation": "gelu"}, "half-stable"),
        ("initialise", {"network": "no_module"}, "module:function"),
        ("initialise", {"widths": [3, 0]}, "widths"),
        ("network", {"network": f"{HERE}:NUMBER"}, "returns the network"),
        ("network", {"network": f"{HERE}:perceptron", "input_shape": [21]}, "input of shape"),
        ("kernel", {"networks": 1}, "no spread"),
        (
            "kernel",
            {"activation": "relu", "weight_variance": 1e9, "bias_variance": 0, "depth": 30},
            "beyond all numbers",
        ),
        ("information", {"outputs": 3}, "halved"),
        ("depth", {"width": 0}, "width"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(question: str, keys: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said) as caught:
        asked(question, **keys)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(InputError, match="no GPU"):
        ask("pdlt", "kernel", {"networks": 10, "depth": 2}, runtime=Runtime(device="cuda"))


def test_the_command_line_answers(encore: Callable[..., Any], clean_directory: Path):
    answer = encore("ask", "pdlt", "critical-point", "swish", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["values"]["C_W"] == pytest.approx(1.98800468, abs=1e-8)
    (clean_directory / "mine_here.py").write_text("import torch\n\ndef wave(z):\n    return torch.sin(z)\n")
    assert encore("ask", "pdlt", "universality-class", "mine_here:wave").code == 0
    assert encore("ask", "pdlt", "critical-point", "sigmoid").code == 2
