"""The recipe: which arms answer which claim, what is measured of prototypes, and the whole at smoke scale."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from encore.base import registry
from encore.base.configuration import configure
from encore.base.errors import ConfigurationError, UnknownNameError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.data.classification import open_classification
from encore.data.contracts import DataSplits
from encore.data.splits import Subset
from encore.nn.creation import create_model
from encore.papers.prototypes import together
from encore.papers.prototypes.fit import PrototypesFit
from encore.papers.prototypes.interpretability import case_measures
from encore.papers.prototypes.recipe import COMPARED, FASHION_ARMS, MNIST_ARMS, RECIPE, TABLE, FashionPart
from encore.results.record import ArmRecord
from encore.tasks.classification import TASK, ClassificationFit
from encore.verbs.run import run

CARD = registry.card("prototypes")


def test_every_claim_belongs_to_one_part():
    claims = [claim for part in RECIPE.parts for claim in part.claims]
    assert sorted(claims) == sorted(claim.id for claim in CARD.claims)


def test_the_table_has_a_row_for_every_arm():
    table = next(one for one in CARD.tables if one.id == TABLE)
    assert set(table.rows) == {arm.name for arm in MNIST_ARMS}


def test_arms_differ_in_the_terms_alone():
    ablations = {arm.name: arm.arguments for arm in MNIST_ARMS if arm.model == "prototypes"}
    assert ablations == {
        "prototypes": {},
        "without_terms": {"r1_weight": 0.0, "r2_weight": 0.0},
        "r1_only": {"r2_weight": 0.0},
        "r2_only": {"r1_weight": 0.0},
    }
    assert not any(arm.settings for arm in (*MNIST_ARMS, *FASHION_ARMS))


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_trains_as_the_official_code_does(scale: str):
    configuration = RECIPE.configuration(scale, {})
    for fit in (configuration.mnist, configuration.fashion):
        assert fit.training.optimizer == "adam"
        assert fit.training.learning_rate == 0.002
        assert fit.training.weight_decay == 0
        assert fit.label_smoothing == 0
        assert (fit.augmentation.elastic_strength == 20) == (scale == "paper")
    if scale == "paper":
        assert (configuration.mnist.training.epochs, configuration.mnist.training.batch_size) == (1500, 250)


def test_as_well_means_within_a_point():
    assert {claim.id: claim.margin for claim in CARD.claims if claim.margin} == {
        "mnist_accuracy": 1.0,
        "fashion_accuracy": 1.0,
    }


def few_digits() -> DataSplits:
    splits = open_classification("digits")
    parts = {
        "train": Subset(splits.train, range(120)),
        "val": Subset(splits.val, range(20)),
        "test": Subset(splits.test, range(40)),
    }
    return TASK.sized(replace(splits, **parts), ClassificationFit(augmentation={"crop": "none"}))


def test_measures_are_those_of_a_slow_reference():
    torch.manual_seed(0)
    splits = few_digits()
    model = create_model("prototypes", image_size=[8, 8]).eval()
    for parameter in model.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(model.head.weight)
    TASK.prepare(model, splits, ClassificationFit())
    before = model.prototypes.detach().clone()
    measures = case_measures(model, splits, Runtime(device="cpu"), SilentProgress(), "measuring")
    assert torch.equal(model.prototypes, before)
    with torch.no_grad():
        codes = torch.cat([model.encode(sample["image"][None].float() / 255) for sample in splits.train])
        labels = [sample["label"] for sample in splits.train]
        distances = [[float((p - z).square().sum()) for z in codes] for p in model.prototypes]
        supported = model.class_of_prototypes().tolist()
    nearest = [min(range(len(codes)), key=row.__getitem__) for row in distances]
    agreement = [labels[one] == own for one, own in zip(nearest, supported, strict=True)]
    ten = [sorted(range(len(codes)), key=row.__getitem__)[:10] for row in distances]
    purity = [sum(labels[one] == own for one in ten[case]) / 10 for case, own in enumerate(supported)]
    r2 = [min(row[column] for row in distances) for column in range(len(codes))]
    assert measures["nearest_example_distance"] == pytest.approx(sum(map(min, distances)) / 15, rel=1e-3)
    assert measures["nearest_prototype_distance"] == pytest.approx(sum(r2) / len(r2), rel=1e-3)
    assert measures["label_agreement"] == pytest.approx(100 * sum(agreement) / 15)
    assert measures["purity"] == pytest.approx(100 * sum(purity) / 15)
    assert measures["classes_covered"] == len(set(supported))
    assert measures["code_norm"] == pytest.approx(float(codes.square().sum(1).mean()), rel=1e-4)
    model.prototypes.data.copy_(codes[nearest])
    with torch.no_grad():
        right = [int(model(one["image"][None].float() / 255).argmax()) == one["label"] for one in splits.test]
    assert measures["accuracy_after_replacement"] == pytest.approx(100 * sum(right) / len(right), abs=0.1)


def short(epochs: int = 1, **more: object) -> dict[str, object]:
    settings: dict[str, object] = {"mnist.training.batch_size": 250, "fashion.training.batch_size": 250, **more}
    return {**settings, "mnist.training.epochs": epochs, "fashion.training.epochs": epochs}


def test_smoke_measures_every_claim_and_gives_no_verdict(clean_directory: Path):
    started = time.monotonic()
    outcome = run("prototypes", scale="smoke", settings=short(single_terms=True), out=clean_directory / "run")
    record = outcome.record
    assert record.seconds <= time.monotonic() - started + 0.1  # the time of a stack counts once
    assert [claim.id for claim in record.claims] == [claim.id for claim in CARD.claims]
    for claim in record.claims:
        assert claim.measured is not None
        assert claim.holds is None
        assert "digits stands in" in claim.note
    (table,) = record.tables
    assert {row.name for row in table.rows} == {arm.name for arm in MNIST_ARMS}
    assert "accuracy_after_replacement" not in next(row for row in table.rows if row.name == "plain_twin").values
    for name in ("prototypes.png", "prototypes_fashion.png", "model.safetensors"):
        assert (clean_directory / "run" / name).is_file()
    assert COMPARED.keys() < {claim.id for claim in record.claims}
    assert not list((clean_directory / "run").rglob("*.ckpt"))


def test_arms_trained_together_are_those_trained_one_by_one(clean_directory: Path):
    records = {}
    for batched in (False, True):
        settings = short(epochs=3, batched=batched, **{"mnist.augmentation.elastic_strength": 10.0})
        out = clean_directory / f"batched_{batched}"
        claims = ["mnist_accuracy"]
        outcome = run("prototypes", scale="smoke", claims=claims, seeds=2, settings=settings, out=out)
        records[batched] = {(one.arm, one.seed): one for one in outcome.record.arms}
    assert len(records[True]) == 4
    for member, alone in records[False].items():
        together = records[True][member]
        assert together.metrics["log_loss"] == pytest.approx(alone.metrics["log_loss"], rel=1e-4)
        for ours, theirs in zip(together.curves, alone.curves, strict=True):
            assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
            assert ours["val_accuracy"] == pytest.approx(theirs["val_accuracy"], abs=1.0)


def test_a_stack_that_was_stopped_goes_on_to_the_same_networks(clean_directory: Path, monkeypatch: pytest.MonkeyPatch):
    settings = short(epochs=3, **{"mnist.training.checkpoint_minutes": 1e-9})
    asked = {"scale": "smoke", "claims": ["mnist_accuracy"], "settings": settings}
    whole = run("prototypes", **asked, out=clean_directory / "whole").record
    close = together._Stack._close_epoch

    def stop(stack: together._Stack, *arguments: object) -> None:
        if stack.at.epoch == 2:
            raise KeyboardInterrupt
        close(stack, *arguments)

    monkeypatch.setattr(together._Stack, "_close_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        run("prototypes", **asked, out=clean_directory / "stopped")
    assert list((clean_directory / "stopped").rglob("together_*.ckpt"))
    monkeypatch.setattr(together._Stack, "_close_epoch", close)
    resumed = run("prototypes", **asked, out=clean_directory / "stopped", resume=True).record
    assert [one.metrics for one in resumed.arms] == [one.metrics for one in whole.arms]
    assert [len(one.curves) for one in resumed.arms] == [3, 3]


def test_a_stack_that_was_stopped_while_it_was_measured_is_not_trained_again(
    clean_directory: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = {"scale": "smoke", "claims": ["mnist_accuracy"], "settings": short(), "seeds": 2}
    recorded: list[str] = []

    def stop(**values: object) -> ArmRecord:
        recorded.append(str(values["arm"]))
        if len(recorded) == 2:
            raise KeyboardInterrupt
        return ArmRecord(**values)

    monkeypatch.setattr(together, "ArmRecord", stop)
    with pytest.raises(KeyboardInterrupt):
        run("prototypes", **asked, out=clean_directory / "run")
    monkeypatch.setattr(together, "ArmRecord", ArmRecord)
    trained, close = [], together._Stack._close_epoch

    def watch(stack: together._Stack, *arguments: object) -> None:
        trained.append(stack.members[0][0].model)
        close(stack, *arguments)

    monkeypatch.setattr(together._Stack, "_close_epoch", watch)
    record = run("prototypes", **asked, out=clean_directory / "run", resume=True).record
    assert trained == ["prototypes_twin"]
    assert len(record.arms) == 4
    assert not list((clean_directory / "run").rglob("*.ckpt"))


@pytest.mark.parametrize(
    "setting",
    [
        {"training.schedule": "cosine"},
        {"monitor": "class_accuracy"},
        {"loss": "binary_cross_entropy"},
        {"augmentation.saturation": 0.3},
        {"augmentation.crop": "padded"},
        {"learnt": "head"},
    ],
)
def test_a_stack_refuses_settings_that_it_does_not_know(setting: dict[str, object]):
    fit = configure(PrototypesFit, {"augmentation.horizontal_flip": 0.5, **setting})
    assert not together.can_train_together(fit, Runtime(device="cpu"))
    plain = configure(PrototypesFit, {"augmentation.horizontal_flip": 0.5, "mixup": 0.2, "label_smoothing": 0.1})
    assert together.can_train_together(plain, Runtime(device="cpu"))
    assert not together.can_train_together(plain, Runtime(device="cpu", precision="bf16-mixed"))
    assert not together.can_train_together(plain, Runtime(device="cpu", devices=2))


@pytest.mark.parametrize(
    ("claims", "single_terms", "due"),
    [
        (["mnist_accuracy"], True, ["prototypes", "plain_twin"]),
        (["label_agreement"], False, ["prototypes", "without_terms"]),
        (list(COMPARED), False, ["prototypes", "without_terms"]),
        (list(COMPARED), True, [arm.name for arm in MNIST_ARMS]),
    ],
)
def test_no_more_arms_are_trained_than_are_asked_for(claims: list[str], single_terms: bool, due: list[str]):
    asked: Any = SimpleNamespace(
        asks=lambda *ids: any(one in claims for one in ids),
        configuration=RECIPE.configuration("laptop", {"single_terms": single_terms}),
    )
    assert [arm.name for arm in RECIPE.parts[0].asked_arms(asked)] == due


def test_what_a_stack_does_not_know_is_said_with_the_way_out(clean_directory: Path):
    settings = short(**{"mnist.training.schedule": "cosine"})
    with pytest.raises(ConfigurationError, match="batched=false"):
        run("prototypes", scale="smoke", claims=["mnist_accuracy"], settings=settings, out=clean_directory / "run")


def test_an_argument_that_one_arm_does_not_take_is_named_before_another_is_trained(clean_directory: Path):
    settings = short(**{"mnist.model_arguments.per_class": True})
    with pytest.raises(UnknownNameError, match="prototypes_twin"):
        run("prototypes", scale="smoke", claims=["mnist_accuracy"], settings=settings, out=clean_directory / "run")
    assert not (clean_directory / "run" / "arms").exists()


class _Sized:
    def __init__(self, train: int, val: int) -> None:
        self.parts = {"train": train, "val": val}

    def sizes(self) -> dict[str, int]:
        return self.parts


def test_the_papers_figure_on_fashion_is_asked_for_in_its_own_setting_alone():
    part = next(part for part in RECIPE.parts if isinstance(part, FashionPart))

    def asked(scale: str, **settings: object) -> str:
        performance: Any = SimpleNamespace(scale=scale, configuration=RECIPE.configuration(scale, settings))
        return part.elsewhere(performance, _Sized(54_000, 6_000))

    assert asked("paper") == ""
    assert asked("paper", **{"fashion.training.epochs": 3})
    assert asked("laptop")
    performance: Any = SimpleNamespace(scale="paper", configuration=RECIPE.configuration("paper", {}))
    assert part.elsewhere(performance, _Sized(18_000, 2_000))
