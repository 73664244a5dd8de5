"""The memory network part of the recipe: what it measures, with which data, and what a resumed run does again."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from encore.base.cards import read_card
from encore.base.configuration import Configuration, configure
from encore.base.errors import ConfigurationError, DataError
from encore.base.progress import SilentProgress
from encore.base.runs import RunFolder
from encore.base.runtime import Runtime, Scale
from encore.papers import gradient_noise
from encore.papers.gradient_noise import memory_network_part
from encore.papers.gradient_noise.memory_network_part import DEFAULTS, PART, MemoryNetworkSettings
from encore.results.performance import Performance

from ...data.sets.test_babi import TEXT, write_task

BOTH = ("memory_network", "memory_network_two_stage")
TINY = {"memory_network.epochs": 2, "memory_network.linear_epochs": 1, "memory_network.questions": 40}


class Sections(Configuration):
    memory_network: MemoryNetworkSettings = MemoryNetworkSettings()


def make_performance(
    folder: RunFolder | None = None,
    claims: Sequence[str] = BOTH,
    *,
    scale: Scale = "smoke",
    settings: dict[str, object] | None = None,
    data: dict[str, Path] | None = None,
) -> Performance:
    card = read_card(Path(gradient_noise.__file__).with_name("card.toml"))
    return Performance(
        card,
        scale,
        tuple(card.claim(claim) for claim in claims),
        (0, 1, 2),
        configure(Sections, settings if settings is not None else TINY, {"memory_network": DEFAULTS[scale]}),
        Runtime(device="cpu", data=data or {}),
        SilentProgress(),
        folder,
    )


@pytest.fixture
def folder(clean_directory: Path) -> RunFolder:
    return RunFolder(clean_directory / "run", {"asked": "once"}, resume=True)


def test_made_stories_stand_in_for_babi_without_a_verdict(folder: RunFolder):
    performance = make_performance(folder)
    PART.perform(performance)
    record = performance.result()
    assert [claim.id for claim in record.claims] == list(BOTH)
    for claim in record.claims:
        assert claim.holds is None
        assert "Made stories stand in for bAbI" in claim.note
        assert claim.measured is not None
        assert claim.measured.n == 3
        assert [one.name for one in claim.baselines] == ["no_noise"]
        assert 0 <= claim.measured.mean <= 100
    assert record.data[0].embedded
    assert {arm.arm for arm in record.arms} == {
        f"memory_network_{stage}_stage{noise}" for stage in ("one", "two") for noise in ("", "_noise")
    }
    assert record.arms[0].curves[-1]["epoch"] == 2
    assert {path.path for path in record.pictures} == {"memory_network_errors.png", "memory_network_attention.png"}
    assert all((folder.path / one.path).stat().st_size > 5000 for one in record.pictures)
    table = next(one for one in record.tables if one.table.id == "memory_networks")
    assert {row.name for row in table.rows} == set(table.table.rows)
    assert all(verdict is None for row in table.rows for verdict in row.verdicts.values())


def test_only_what_a_claim_compares_is_trained(folder: RunFolder):
    performance = make_performance(folder, ["memory_network_two_stage"])
    PART.perform(performance)
    assert {arm.arm for arm in performance.arms} == {"memory_network_two_stage", "memory_network_two_stage_noise"}
    assert list(performance.records) == ["memory_network_two_stage"]


def test_a_finished_task_is_not_trained_again(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    first = make_performance(folder)
    PART.perform(first)
    monkeypatch.setattr(memory_network_part, "train_networks", None)
    second = make_performance(folder)
    PART.perform(second)
    assert second.records == first.records
    assert second.seconds_before > 0


def test_errors_are_means_over_tasks(folder: RunFolder):
    performance = make_performance(folder, ["memory_network"])
    PART.perform(performance)
    for arm in performance.arms:
        for part in ("validation", "test"):
            both = [arm.metrics[f"task_{task:02d}_{part}_error"] for task in (1, 2)]
            assert None not in both
            assert arm.metrics[f"{part}_error"] == pytest.approx(sum(one or 0.0 for one in both) / 2)
    noisy = [arm.metrics["validation_error"] for arm in performance.arms if arm.arm.endswith("noise")]
    measured = performance.records["memory_network"].measured
    assert measured is not None
    assert measured.values == noisy


def test_named_data_are_used_at_every_scale(folder: RunFolder, clean_directory: Path):
    place = write_task(clean_directory / "babi", text=TEXT * 10)
    settings = {**TINY, "memory_network.tasks": [1]}
    performance = make_performance(folder, data={"babi": place}, settings=settings)
    PART.perform(performance)
    record = performance.result()
    assert (record.data[0].name, record.data[0].embedded) == ("babi", False)
    assert record.data[0].sizes == {"train": 27, "val": 3, "test": 30}
    assert "stand in" not in record.claims[0].note


def test_a_task_that_is_not_there_is_refused(folder: RunFolder, clean_directory: Path):
    place = write_task(clean_directory / "babi", text=TEXT * 10)
    with pytest.raises(DataError, match="no training part of task 2"):
        PART.perform(make_performance(folder, data={"babi": place}))
    for tasks in ([], [0], [21], ["first"]):
        with pytest.raises(ConfigurationError, match="tasks"):
            make_performance(settings={"memory_network.tasks": tasks})


def test_all_tasks_can_be_learnt_by_one_network(folder: RunFolder):
    settings = {**TINY, "memory_network.joint": True, "memory_network.embed_dim": 8}
    performance = make_performance(folder, ["memory_network"], settings=settings)
    PART.perform(performance)
    assert "2 tasks learnt together" in performance.records["memory_network"].note
    assert (folder.path / "memory_network" / "joint.json").is_file()


def test_a_dry_run_says_what_it_would_do(clean_directory: Path):
    plan = PART.plan(make_performance())
    assert plan.data == ["stories: task_01, task_02"]
    assert len(plan.arms) == 4
    assert 0 < plan.seconds < 60
    # At the paper's own setting: ten times the epochs of more questions, of two made tasks.
    assert PART.plan(make_performance(scale="paper", settings={})).seconds > plan.seconds


def test_laptop_and_paper_are_the_papers_own_setting():
    settings = make_performance(scale="laptop", settings={}).configuration.memory_network
    assert (settings.epochs, settings.eta, settings.gamma) == (200, 1.0, 0.55)
    assert (settings.learning_rate, settings.halve_every, settings.batch_size) == (0.01, 25, 32)
    assert (settings.max_gradient_norm, settings.memory_size, settings.num_hops) == (40.0, 50, 3)
    assert len(settings.tasks) == 20
