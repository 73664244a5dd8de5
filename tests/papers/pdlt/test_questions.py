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


def test_the_tangent_kernel_of_a_users_network_is_measured_beside_theory():
    answer = asked(
        "network",
        network=f"{HERE}:perceptron",
        activation="tanh",
        input_shape=[20],
        networks=20,
        tangent_networks=300,
    )
    found = answer.values["tangent_kernel"]
    for name in ("mean", "A", "B"):
        value, error = found[name]["measured"]
        assert abs(value - found[name]["theory"]) < 5 * error + 0.02 * abs(found[name]["theory"]), name
    # PyTorch draws uniform weights, whose squares vary by 2/5 of those of normal ones
    assert found["spread"]["measured"][0] == pytest.approx(found["spread"]["theory"] * math.sqrt(0.4), rel=0.1)
    assert "theory for normal weights" in answer.text


def test_a_single_output_has_no_partner():
    asked_for = {"network": f"{HERE}:one_output", "input_shape": [20], "networks": 30, "tangent_networks": 30}
    answer = asked("network", **asked_for)
    assert "nan" not in answer.text
    assert answer.rows[-1]["four-point"] == "–"
    assert answer.values["tangent_kernel"]["A"]["measured"] == [None, None]
    measured = asked("kernel", width=10, depth=3, outputs=1, networks=30).values["layers"]
    assert measured[-1]["measured"]["normalised_vertex"] == [None, None]
    assert measured[-2]["measured"]["normalised_vertex"][0] is not None


def test_networks_of_any_kind_are_measured():
    for name in ("in_float64", "Branching"):
        answer = asked("network", network=f"{HERE}:{name}", activation="tanh", input_shape=[20], networks=30)
        assert len(answer.rows) == 2
    told = asked("network", network=f"{HERE}:perceptron", activation="perceptron", input_shape=[20], networks=5)
    assert "Theory has no answer" in told.text
    assert "theory: mean z²" not in told.rows[0]


def test_skips_are_initialised_where_they_fit():
    rows = asked("initialise", activation="relu", widths=[10, 20, 20, 5], skip=0.6).values["layers"]
    assert [row["C_W"] for row in rows] == pytest.approx([2, 2 * 0.64, 2])


def test_what_the_book_does_not_give_is_said():
    assert "no correction" in asked("critical-point", activation="gelu", width=10).text
    assert "leaves them out" in asked("residual", activation="relu").text


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
        ("kernel", {"width": 10**9, "networks": 2}, "too many to draw"),
        ("kernel", {"activation": "sigmoid"}, "give both weight_variance and bias_variance"),
        ("kernel", {"first_kernel": math.inf}, "finite number"),
        ("kernel", {"weight_variance": math.nan}, "weight_variance"),
        ("kernel", {"depth": 10**9}, "depth"),
        ("learning-rates", {"bias_rate": math.inf}, "finite number"),
        ("initialise", {"widths": [3, 4, 5], "skip": 0.5}, "no skip connection fits"),
        ("initialise", {"network": f"{HERE}:failing"}, "no such size"),
        ("residual", {"activation": "selu"}, "smooth at 0"),
        ("network", {"network": ":make"}, "no module:function"),
        ("network", {"network": f"{HERE}:failing"}, "no such size"),
        ("network", {"network": f"{HERE}:always_the_same", "input_shape": [20], "networks": 3}, "same weights"),
        ("network", {"network": f"{HERE}:perceptron", "input_shape": [-20]}, "input_shape"),
        ("network", {"network": f"{HERE}:perceptron", "input_shape": [10**5, 10**5]}, "numbers"),
        ("network", {"network": f"{HERE}:perceptron", "activation": "tanhh"}, "did you mean"),
        ("network", {"network": f"{HERE}:perceptron", "tangent_networks": 1}, "no spread"),
        (
            "network",
            {"network": f"{HERE}:Branching", "input_shape": [20], "networks": 3, "tangent_networks": 2},
            "cannot vectorise",
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
