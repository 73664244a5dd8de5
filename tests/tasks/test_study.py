"""Studies train every arm for every seed once, and say beforehand what they will cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encore.base import registry
from encore.base.configuration import configure
from encore.base.progress import SilentProgress
from encore.base.runs import RunFolder
from encore.base.runtime import Runtime
from encore.data.streets import streets_splits
from encore.results.performance import Performance
from encore.tasks.segmentation import TASK, SegmentationFit
from encore.tasks.study import Arm, Study

ARMS = (Arm("method", "segnet_basic"), Arm("plain", "segnet_basic_bilinear", {"depth": 2}))


@pytest.fixture(scope="module")
def study() -> Study:
    settings = {"model_arguments.width": 8, "model_arguments.kernel_size": 3, "training.epochs": 1}
    splits = streets_splits(height=24, width=32, train=8, val=3, test=3)
    return Study(TASK, ARMS, splits, configure(SegmentationFit, settings))


def performance(study: Study, folder: RunFolder | None) -> Performance:
    return Performance(
        card=registry.card("segnet"),
        scale="smoke",
        claims=(),
        seeds=(4, 5),
        configuration=study.configuration,
        runtime=Runtime(device="cpu"),
        progress=SilentProgress(),
        folder=folder,
    )


def test_a_killed_study_continues_with_what_is_missing(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with RunFolder(tmp_path, {}) as folder:
        records = study.perform(performance(study, folder))
    assert {name: [one.seed for one in arm] for name, arm in records.items()} == {"method": [4, 5], "plain": [4, 5]}
    (tmp_path / "arms" / "plain" / "seed5" / "arm.json").unlink()
    trained: list[str] = []
    train = TASK.train

    def counted(*arguments: object, **options: object) -> object:
        trained.append(str(options["stage"]))
        return train(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TASK, "train", counted)
    with RunFolder(tmp_path, {}, resume=True) as folder:
        again = study.perform(performance(study, folder))
    assert trained == ["plain, seed 5"]
    metrics = [{name: [one.metrics for one in arm] for name, arm in some.items()} for some in (records, again)]
    assert metrics[0] == metrics[1]


def test_a_finished_study_trains_nothing_again(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with RunFolder(tmp_path, {}) as folder:
        records = study.perform(performance(study, folder))
    for arm in ("method", "plain"):
        for seed in (4, 5):
            kept = json.loads((tmp_path / "arms" / arm / f"seed{seed}" / "arm.json").read_text())
            assert (kept["arm"], kept["seed"]) == (arm, seed)

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(type(TASK), "train", refuse)
    with RunFolder(tmp_path, {}, resume=True) as folder:
        resumed = performance(study, folder)
        assert study.perform(resumed) == records
    assert resumed.seconds_before == pytest.approx(sum(record.seconds for arm in records.values() for record in arm))


def test_an_example_batch_says_what_share_of_the_work_it_is():
    splits = streets_splits(height=24, width=32, train=3, val=1, test=1)
    batch, share = TASK.example_batch(splits, configure(SegmentationFit, {"training.batch_size": 8}))
    assert tuple(batch["image"].shape) == (2, 3, 24, 32)
    assert share == 1 / 4
    batch, share = TASK.example_batch(splits, configure(SegmentationFit, {"training.batch_size": 1}))
    assert len(batch["image"]) == share == 1


def test_an_arm_s_own_arguments_join_those_that_all_share(study: Study, tmp_path: Path):
    with RunFolder(tmp_path, {}) as folder:
        study.perform(performance(study, folder))
    described = json.loads((tmp_path / "arms" / "plain" / "seed4" / "config.json").read_text())["encore"]
    assert described["configuration"]["depth"] == 2
    assert described["configuration"]["width"] == 8
    assert not (tmp_path / "arms" / "plain" / "seed4" / "checkpoints").exists()


def test_a_plan_names_data_arms_seeds_and_costs(study: Study):
    plan = study.plan(performance(study, None))
    assert plan.seeds == [4, 5]
    assert "train 8" in plan.data[0]
    assert [line.split(":")[0] for line in plan.arms] == ["method", "plain"]
    assert plan.seconds > 0
    assert plan.memory_bytes > 2**20
    assert plan.disk_bytes > 0
