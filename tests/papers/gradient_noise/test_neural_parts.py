"""The experiments on learnt programs: what they record, and that what is finished is not done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from encore.base import registry
from encore.base.configuration import Configuration, configure
from encore.base.errors import ConfigurationError, UnknownNameError
from encore.base.progress import SilentProgress
from encore.base.runs import RunFolder
from encore.base.runtime import Runtime
from encore.papers.gradient_noise import neural_gpu_part, neural_programmer_part, neural_ram_part, neural_success
from encore.papers.gradient_noise.neural_success import SuccessPart, SuccessSettings
from encore.results.performance import Performance

CARD = registry.card("gradient_noise")
MODULES = {module.PART.name: module for module in (neural_programmer_part, neural_ram_part, neural_gpu_part)}


class Sections(Configuration):
    """The sections of the three experiments."""

    neural_programmer: neural_programmer_part.NeuralProgrammerSettings
    neural_ram: neural_ram_part.NeuralRAMSettings
    neural_gpu: neural_gpu_part.NeuralGPUSettings


def configuration(scale: str, settings: dict[str, object] | None = None) -> Sections:
    return configure(Sections, settings or {}, {name: module.DEFAULTS[scale] for name, module in MODULES.items()})


def performance(folder: RunFolder | None, name: str, settings: dict[str, object] | None = None) -> Performance:
    return Performance(
        card=CARD,
        scale="smoke",
        claims=(CARD.claim(name),),
        seeds=(0, 1, 2),
        configuration=configuration("smoke", settings),
        runtime=Runtime(device="cpu"),
        progress=SilentProgress(),
        folder=folder,
    )


@pytest.mark.parametrize("name", MODULES)
def test_each_arm_is_trained_once_and_judged_by_its_successes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    part: SuccessPart = MODULES[name].PART
    short = {f"{name}.training.steps": 6, f"{name}.training.evaluate_every": 3}
    with RunFolder(tmp_path / "run", {}) as folder:
        first = performance(folder, name, short)
        part.perform(first)
        record = first.records[name]
        figure = CARD.claim(name).paper
        assert figure is not None
        assert [baseline.name for baseline in record.baselines] == list(figure.baselines) == list(part.baselines)
        assert record.measured is not None
        assert all(0 <= value <= 100 for value in record.measured.values)
        assert "mean accuracy" in record.note
        assert len(first.arms) == 3 * (1 + len(part.baselines))
        assert (folder.path / f"{name}.png").is_file()
        monkeypatch.setattr(neural_success, "train_ensemble", None)
        again = performance(folder, name, short)
        part.perform(again)
        assert again.records[name] == record
        assert again.tables == first.tables


def test_the_neural_gpus_table_is_filled(tmp_path: Path):
    short = {"neural_gpu.training.steps": 2, "neural_gpu.runs": 1}
    with RunFolder(tmp_path / "run", {}) as folder:
        done = performance(folder, "neural_gpu", short)
        neural_gpu_part.PART.perform(done)
    (table,) = done.tables
    assert {row.name for row in table.rows} == {"noise", "no_noise"}
    assert {column.metric for column in table.table.columns} == set(table.rows[0].values)


@pytest.mark.parametrize("name", MODULES)
def test_a_plan_counts_the_trainings_and_starts_none(name: str):
    part: SuccessPart = MODULES[name].PART
    plan = part.plan(performance(None, name))
    assert plan.seconds > 0
    assert plan.memory_bytes > 400 * 2**20
    assert f"{3 * 2 * (1 + len(part.baselines))} trainings" in plan.notes[0]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("name", MODULES)
def test_every_scale_has_a_machine(scale: str, name: str):
    settings: SuccessSettings = getattr(configuration(scale), name)
    for point in settings.points()[:2]:
        assert point.problem().model([0]).seeds == (0,)


def test_the_papers_grids_have_the_papers_sizes():
    sections = configuration("paper")
    assert len(sections.neural_programmer.points()) == 72
    assert len(sections.neural_ram.points()) == 3
    assert len(sections.neural_gpu.points()) == 7290 // 10


def test_the_papers_noise_is_used_at_its_scale():
    sections = configuration("paper")
    assert (sections.neural_programmer.eta, sections.neural_ram.eta, sections.neural_gpu.eta) == (1.0, 0.3, 1.0)


def test_a_grid_of_unknown_keys_is_refused():
    with pytest.raises(UnknownNameError, match="learning_rate"):
        configuration("smoke", {"neural_ram.grid": {"training.learning_rat": [1]}})


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        ({"length": []}, "no values for 'length'"),
        ({"length": [1, 99]}, "99 elements does not fit"),
        ({"runs": [1, 2]}, "cannot vary 'runs'"),
        ({"training.clip": [-1]}, "training.clip"),
    ],
)
def test_a_grid_that_cannot_be_trained_is_refused_before_anything_is(grid: dict[str, list[int]], reason: str):
    with pytest.raises(ConfigurationError, match=reason):
        configuration("smoke", {"neural_ram.grid": grid})


@pytest.mark.parametrize("key", ["steps", "batch_size", "learning_rate", "clip", "evaluate_every", "advance_every"])
def test_a_training_of_nothing_is_refused(key: str):
    with pytest.raises(ConfigurationError, match=f"neural_gpu.training.{key}"):
        configuration("smoke", {f"neural_gpu.training.{key}": 0})


@pytest.mark.parametrize(
    ("scale", "name", "words"),
    [
        ("laptop", "neural_programmer", ["12 kinds", "drops 0.2", "clipping at 100"]),
        ("laptop", "neural_ram", ["in an array", "feed-forward controller instead of an LSTM", "only 2,500 different"]),
        ("laptop", "neural_gpu", ["up to 3 digits and judged on 3;", "both arms drop 0.01", "only 64 different"]),
        ("paper", "neural_programmer", ["All combinations of", "training.clip 1.0, 10.0, 100.0"]),
        ("paper", "neural_ram", ["in a linked list", "steps of an LSTM"]),
        ("paper", "neural_gpu", ["up to 20 digits and judged on 200;", "cutoff 1.0, 1.2, 1.5"]),
    ],
)
def test_a_note_says_what_was_trained_and_what_judged(scale: str, name: str, words: list[str]):
    settings = getattr(configuration(scale), name)
    note = MODULES[name].PART.setting(settings)
    assert all(word in note for word in words), note
    assert ("only" in note) == (scale == "laptop" and name != "neural_programmer")
