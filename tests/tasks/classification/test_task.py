"""The task from data to a tested model, at tiny size, and through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from encore.base.configuration import configure
from encore.base.errors import ConfigurationError, DataError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.data.classification import open_classification
from encore.data.contracts import DataSplits
from encore.nn.creation import create_model, load
from encore.nn.export import export_model
from encore.nn.model import Preprocessing
from encore.tasks.base import TrainedModel, details_of, get_task, list_tasks
from encore.tasks.classification import TASK, ClassificationFit
from encore.tasks.classification.pictures import confusion_picture, ranked_picture
from encore.tasks.classification.task import PicturesToScores
from encore.tasks.views import AsSeen, natural_size
from tests.conftest import Answer

RUNTIME = Runtime(seed=1, device="cpu")
TINY = {
    "model": "hornet",
    "model_arguments": {
        "width": 8,
        "depths": [1, 1],
        "orders": [1, 2],
        "filters": [None, None],
        "layer_scale": 1.0,
    },
    "training.epochs": 2,
    "training.batch_size": 16,
    "training.learning_rate": 3e-3,
}


def some_digits(count: int = 64) -> DataSplits:
    splits = open_classification("digits")
    from encore.data.splits import Subset

    return replace(
        splits,
        train=Subset(splits.train, range(count)),
        val=Subset(splits.val, range(20)),
        test=Subset(splits.test, range(20)),
    )


@pytest.fixture(scope="module")
def splits() -> DataSplits:
    return TASK.sized(some_digits(), configure(ClassificationFit, TINY))


def trained(splits: DataSplits, folder: Path, **changes: object) -> TrainedModel:
    return TASK.train(
        splits,
        configure(ClassificationFit, {**TINY, **changes}),
        runtime=RUNTIME,
        folder=folder,
        progress=SilentProgress(),
        stage="training",
    )


@pytest.fixture(scope="module")
def first(splits: DataSplits, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Path]:
    folder = tmp_path_factory.mktemp("first")
    return trained(splits, folder), folder


def test_tasks_are_found_by_looking():
    assert "classification" in list_tasks()
    assert get_task("classification") is TASK


def test_what_is_loaded_again_measures_what_was_measured(splits: DataSplits, first: tuple[TrainedModel, Path]):
    outcome, folder = first
    again = TASK.measure(load(folder), splits.test, RUNTIME, SilentProgress(), "test")
    assert again == outcome.test
    matrix = np.asarray(details_of(again)["confusion"])
    assert matrix.shape == (10, 10)
    assert matrix.sum() == 20
    assert np.trace(matrix) / 20 * 100 == pytest.approx(again["accuracy"])


def test_the_same_seed_trains_the_same_weights(splits: DataSplits, first: tuple[TrainedModel, Path], tmp_path: Path):
    again = trained(splits, tmp_path)
    for name, tensor in first[0].model.state_dict().items():
        assert tensor.equal(again.model.state_dict()[name]), name


def test_augmented_and_mixed_training_works(splits: DataSplits, tmp_path: Path):
    outcome = trained(
        splits,
        tmp_path,
        **{
            "mixup": 0.8,
            "cutmix": 1.0,
            "loss": "binary_cross_entropy",
            "augmentation.rand_augment": 2,
            "augmentation.random_erasing": 0.25,
            "augmentation.brightness": 0.4,
            "augmentation.crop": "padded",
            "augmentation.crop_padding": 1,
            "training.epochs": 1,
        },
    )
    assert all(torch.isfinite(one).all() for one in outcome.model.state_dict().values())


def test_a_linear_probe_leaves_the_encoder_as_it_was(splits: DataSplits, first, tmp_path: Path):
    _, folder = first
    probe = trained(splits, tmp_path, weights=str(folder), learnt="head", **{"training.epochs": 1})
    assert probe.outcome.steps > 0
    before, after = load(folder).state_dict(), probe.model.state_dict()
    changed = {name.partition(".")[0] for name in before if not before[name].equal(after[name])}
    assert changed == {"head"}


def test_a_head_of_other_classes_begins_afresh_and_the_encoder_stays(first, tmp_path: Path):
    _, folder = first
    model = create_model("hornet", weights=folder, num_classes=3, fresh=("head",))
    assert model.head.weight.shape[0] == 3
    assert model.stages[0][0].pwconv1.weight.equal(load(folder).stages[0][0].pwconv1.weight)


def test_a_model_without_a_head_is_no_linear_probe(splits: DataSplits):
    configuration = configure(ClassificationFit, {**TINY, "learnt": "head"})
    with pytest.raises(ConfigurationError, match="no layer called 'head'"):
        TASK.module(create_model("segnet_basic", num_classes=10, width=4), splits, configuration)


def test_pictures_of_one_small_size_are_taken_as_they_are_and_others_at_224():
    class Sized:
        def __init__(self, *sizes: tuple[int, int]) -> None:
            self.sizes = list(sizes)

    assert natural_size(Sized((28, 28), (28, 28))) == (28, 28)
    assert natural_size(Sized((28, 28), (28, 30))) == (224, 224)
    assert natural_size(Sized((3000, 4000))) == (224, 224)


def test_the_middle_of_a_picture_is_seen_at_the_crop_ratio():
    image = torch.randint(0, 256, (3, 100, 160), dtype=torch.uint8)
    view = Preprocessing(size=(35, 35), crop_ratio=0.7)
    slow = F.interpolate(
        image[:, 15:85, 45:115].unsqueeze(0).float(), (35, 35), mode="bilinear", antialias=True, align_corners=False
    )
    assert view.picture(image).equal(slow.round().clamp(0, 255).to(torch.uint8)[0])
    assert view(image)[0].mul(255).sub(slow).abs().max() < 1e-3


def test_sets_of_one_small_size_are_seen_whole_and_others_cropped(splits: DataSplits):
    assert splits.view.size == (8, 8)
    assert splits.view.crop_ratio == 1.0
    assert Preprocessing(size=(35, 35), crop_ratio=1.0).picture(image := torch.zeros(3, 35, 35).byte()).equal(image)
    larger = TASK.sized(some_digits(), configure(ClassificationFit, {**TINY, "image_size": 16}))
    assert larger.view.crop_ratio == 0.875


@pytest.mark.parametrize("side", [8, 16, 20])
def test_what_leaves_encore_sees_what_the_model_sees(side: int):
    model = create_model("hornet", num_classes=3, **TINY["model_arguments"]).eval()
    model.preprocessing = replace(model.preprocessing, size=(16, 16), crop_ratio=0.75, interpolation="bicubic")
    images = torch.randint(0, 256, (2, 3, side, side + 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(PicturesToScores(model)(images), model(model.preprocess(images)), atol=1e-6)


def test_pictures_of_mixed_sizes_train_a_network_with_batch_norm(tmp_path: Path):
    for place, name in enumerate(("cat", "dog")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(10):
            pixels = np.random.default_rng(index + 50 * place).integers(0, 256, (20 + index, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    small = {"layer_type": "basic", "depths": [1], "hidden_sizes": [8], "embedding_size": 8}
    changes = {"model": "resnet", "model_arguments": small, "image_size": 16}
    configuration = configure(ClassificationFit, {**changes, "training.epochs": 1, "training.batch_size": 4})
    splits = TASK.open_data(str(tmp_path / "data"), configuration, RUNTIME, SilentProgress())
    outcome = TASK.train(
        splits, configuration, runtime=RUNTIME, folder=tmp_path / "run", progress=SilentProgress(), stage="training"
    )
    assert outcome.test["accuracy"] is not None


def test_a_frozen_encoder_keeps_its_batch_statistics(splits: DataSplits, tmp_path: Path):
    small = {"layer_type": "basic", "depths": [1], "hidden_sizes": [8], "embedding_size": 8}
    changes = {"model": "resnet", "model_arguments": small, "training.epochs": 1, "training.batch_size": 16}
    whole = trained(splits, tmp_path / "whole", **changes)
    probe = trained(splits, tmp_path / "probe", **changes, weights=str(tmp_path / "whole"), learnt="head")
    before, after = whole.model.state_dict(), probe.model.state_dict()
    assert all(before[name].equal(after[name]) for name in before if name.partition(".")[0] != "head")


def test_a_dollar_in_a_class_is_no_formula(tmp_path: Path):
    confusion_picture(torch.eye(2, dtype=torch.int64), ("under_$100_to_$200", "more"), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").is_file()


def test_a_model_of_another_task_is_refused_before_it_is_trained(splits: DataSplits):
    configuration = configure(ClassificationFit, {"model": "segnet_basic", "model_arguments.width": 4})
    with pytest.raises(ConfigurationError, match="a model for segmentation"):
        TASK.make_model(splits, configuration, 0)


def test_data_that_were_cut_are_measured_on_the_part_held_out(encore, tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(10):
            pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    words = ["--set", "model=hornet", "--set", f"model_arguments={json.dumps(TINY['model_arguments'])}", "--seed", 3]
    answer = encore(
        "fit", "classification", tmp_path / "data", *words, "--epochs", 1, "--out", tmp_path / "run", "--json"
    )
    due = json.loads(answer.out)["metrics"]
    again = json.loads(encore("evaluate", tmp_path / "run", tmp_path / "data", "--json").out)
    assert again["metrics"] == due
    assert np.sum(again["confusion"]) == 2
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert (
        np.sum(json.loads(encore("evaluate", tmp_path / "run", tmp_path / "elsewhere", "--json").out)["confusion"])
        == 20
    )


def test_classes_are_renumbered_by_name_when_they_are_measured(first, tmp_path: Path):
    _, folder = first
    for name in ("7", "3"):
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name / f"{index}.png")
    part = TASK.open_part(str(tmp_path), load(folder), RUNTIME)
    assert [part[index]["label"] for index in range(4)] == [3, 3, 7, 7]
    (tmp_path / "wolf").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "wolf" / "0.png")
    with pytest.raises(DataError, match="wolf"):
        TASK.open_part(str(tmp_path), load(folder), RUNTIME)


def test_what_a_model_sees_can_be_kept_by_labels(splits: DataSplits):
    seen = AsSeen(some_digits().val, Preprocessing(size=(4, 6)))
    assert seen[0]["image"].shape == (3, 4, 6)
    assert seen.sizes == [(4, 6)] * 20
    assert len(seen.labels) == 20


@pytest.mark.parametrize("format", ["onnx", "torch-export"])
def test_exported_classifiers_answer_as_the_model_for_pictures_of_any_size(first, format: str, tmp_path: Path):
    model = load(first[1])
    suffix = {"onnx": ".onnx", "torch-export": ".pt2"}[format]
    exported = export_model(model, TASK.deployed(model), tmp_path / f"model{suffix}", format)
    assert exported.max_difference < 1e-4
    assert exported.outputs[0].shape == ("batch", 10)


def test_a_confusion_matrix_and_a_prediction_are_drawn(tmp_path: Path):
    confusion_picture(torch.eye(3, dtype=torch.int64) * 5, ("a", "b", "c"), tmp_path / "confusion.png")
    assert Image.open(tmp_path / "confusion.png").width > 200
    sheet = ranked_picture(torch.zeros(3, 20, 30, dtype=torch.uint8), [("a very long name" * 5, 0.9), ("b", 0.1)])
    assert sheet.width == 520


def test_fit_predict_and_evaluate_through_the_command_line(encore, tmp_path: Path):
    run = tmp_path / "run"
    words = ["--set", f"model_arguments={json.dumps(TINY['model_arguments'])}", "--set", "training.batch_size=64"]
    words += ["--set", "model=hornet", "--device", "cpu", "--json"]
    answer: Answer = encore("fit", "hornet", "digits", *words, "--epochs", 1, "--out", run)
    assert answer.code == 0, answer.err
    metrics = json.loads(answer.out)["metrics"]
    assert 0 <= metrics["accuracy"] <= metrics["top5_accuracy"] <= 100
    assert {"confusion.png", "confusion.json", "examples.png", "metrics.json"} <= {path.name for path in run.iterdir()}
    evaluated = json.loads(encore("evaluate", run, "digits", "--json", "--device", "cpu").out)
    assert evaluated["metrics"] == pytest.approx(metrics, nan_ok=True)
    assert np.sum(evaluated["confusion"]) == 450
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(tmp_path / "photo.png")
    answer = encore("predict", run, tmp_path / "photo.png", "--out", tmp_path / "out", "--json", "--device", "cpu")
    row = json.loads(answer.out)["predictions"][0]
    assert len(row["top"]) == 5
    assert row["class"] == row["top"][0]["class"]
    assert (tmp_path / "out" / row["picture"]).is_file()
