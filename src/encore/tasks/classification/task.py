"""The task `classification`: its configuration and the hooks of `Task`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from encore.base.errors import ConfigurationError, DataError
from encore.base.files import write_text
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.classification import open_classification, open_classification_part
from encore.data.classification_augmentation import ClassificationAugmentation, RandomCrops
from encore.data.contracts import DataSplits, ImageDataset, Samples
from encore.data.resizing import kept_if_small, sizes_of
from encore.data.splits import some
from encore.nn.batch_norm import folded
from encore.nn.creation import create_model, size_of_weights
from encore.nn.export import Deployment, Port
from encore.nn.model import EncoreModel, Preprocessing
from encore.tasks.base import (
    FitConfiguration,
    ImageSize,
    Measured,
    Metrics,
    Task,
    check_channels,
    check_kind,
    details_of,
)
from encore.tasks.classification.metrics import ClassificationMetrics
from encore.tasks.classification.mixing import Mixing
from encore.tasks.classification.module import HEAD, ClassificationModule, Loss
from encore.tasks.classification.pictures import confusion_picture, sample_sheet
from encore.tasks.classification.prediction import predict_files
from encore.tasks.sheets import save_picture
from encore.tasks.views import AsSeen, ByEpoch, as_input, natural_size
from encore.training.loading import plain_loader
from encore.training.trainer import device_of

EXAMPLE_SIZES = (
    {"batch": 2, "height": 96, "width": 128},
    {"batch": 1, "height": 75, "width": 61},
    {"batch": 3, "height": 48, "width": 97},
)
"""At the first an exported model is traced, at the others the file is compared with it."""


class ClassificationFit(FitConfiguration):
    """Keys of `encore fit classification`.

    Attributes:
        image_size: (height, width) that the model sees, as `224`, `224x224` or `[224,224]`; null takes the size of the
            RUN that `weights` names, else pictures as they are where all have one size of at most 256 pixels a side,
            else 224×224.
        train_samples: how many of the training pictures are used, every class with its share; null for all.
        crop_ratio: the middle of a picture that is kept for validation, test and prediction, its sides as a share of
            the largest rectangle of that form; 1 keeps all of that rectangle. Pictures of that size stay whole.
        interpolation: how pictures are resized, `bilinear` or `bicubic`.
        learnt: `all`, or `head`: the encoder stays as it is (a linear probe).
        loss: `cross_entropy`, or `binary_cross_entropy` of each class for itself.
        label_smoothing: share of the target that is spread over all classes, 0…1.
        mixup, cutmix: α of the distribution of shares (arXiv 1710.09412, 1905.04899); 0 for none.
        mix_probability: with which a batch is mixed at all.
        mix_switch: probability of cutmix where both are wanted.
        monitor: the validation metric that picks the model.
        augmentation: of the training part.
    """

    model: str = "hornet_tiny_7x7"
    image_size: ImageSize = None
    train_samples: int | None = Field(default=None, ge=2)
    crop_ratio: float = Field(default=0.875, gt=0, le=1)
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    learnt: Literal["all", "head"] = "all"
    loss: Loss = "cross_entropy"
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    mix_probability: float = Field(default=1.0, ge=0, le=1)
    mix_switch: float = Field(default=0.5, ge=0, le=1)
    monitor: Literal["accuracy", "class_accuracy"] = "accuracy"
    augmentation: ClassificationAugmentation = Field(default_factory=ClassificationAugmentation)


class ClassificationTask(Task):
    """One class for every picture; metrics in percent."""

    name = "classification"
    configuration = ClassificationFit

    def monitor(self, configuration: ClassificationFit) -> str:
        """The configured one."""
        return configuration.monitor

    def open_data(
        self, source: str, configuration: ClassificationFit, runtime: Runtime, progress: ProgressReporter
    ) -> DataSplits:
        """Open folders of classes, an `.npz`, or a named set; val and test are brought to one size."""
        return self.sized(open_classification(source, seed=runtime.seed, roots=runtime.data), configuration)

    def sized(self, splits: DataSplits, configuration: ClassificationFit) -> DataSplits:
        """`splits` with val and test, and train unless it is cropped at random, as the model sees them."""
        splits = replace(splits, train=some(splits.train, configuration.train_samples))
        size = configuration.image_size or size_of_weights(configuration.weights) or natural_size(splits.train)
        # Pictures that have the size are seen whole, and so are all that come later.
        own = {*sizes_of(splits.train), *sizes_of(splits.val)} == {size}
        ratio = 1.0 if own else configuration.crop_ratio
        view = Preprocessing(size=size, crop_ratio=ratio, interpolation=configuration.interpolation)
        train = splits.train if configuration.augmentation.crop == "resized" else AsSeen(splits.train, view)
        seen = "" if set(sizes_of(splits.val)) == {size} else f", seen at {size[0]} × {size[1]}"
        return kept_if_small(
            replace(
                splits,
                view=view,
                source=splits.source + seen,
                train=train,
                val=AsSeen(splits.val, view),
                test=AsSeen(splits.test, view),
            )
        )

    def open_part(
        self,
        source: str,
        model: EncoreModel,
        runtime: Runtime,
        *,
        progress: ProgressReporter | None = None,
        cut_seed: int | None = None,
    ) -> Samples:
        """The test part of `source` as the model sees it, its classes checked against the model's.

        Raises:
            DataError: it has classes that the model has not learnt.
        """
        dataset = open_classification_part(source, roots=runtime.data, cut_seed=cut_seed)
        known = model.classes or ()
        unknown = [name for name in dataset.classes if name not in known]
        if unknown:
            raise DataError(
                f"{source} has the classes {', '.join(unknown[:5])}, but the model learnt {', '.join(known[:10])}",
                "evaluate on pictures of the model's classes",
            )
        renumbered = Renumbered(dataset, [known.index(name) for name in dataset.classes], known)
        return AsSeen(renumbered, model.preprocessing) if model.preprocessing.size is not None else renumbered

    def prepare(self, model: EncoreModel, splits: DataSplits, configuration: ClassificationFit) -> None:
        """Classes, and the size the model is trained at."""
        model.task = self.name
        model.classes = tuple(splits.classes)
        view: Preprocessing = splits.view
        model.preprocessing = replace(
            model.preprocessing, size=view.size, crop_ratio=view.crop_ratio, interpolation=view.interpolation
        )

    def make_model(self, splits: DataSplits, configuration: ClassificationFit, seed: int) -> EncoreModel:
        """As `Task.make_model`; where the weights are of other classes, the head begins afresh."""
        torch.manual_seed(seed)
        arguments = {"num_classes": len(splits.classes), **configuration.model_arguments}
        model: EncoreModel = create_model(
            configuration.model, weights=configuration.weights, fresh=(HEAD,), **arguments
        )
        check_kind(model, self.name)
        check_channels(model)
        self.prepare(model, splits, configuration)
        return model

    def module(self, model: EncoreModel, splits: DataSplits, configuration: ClassificationFit) -> ClassificationModule:
        """The model with its loss.

        Raises:
            ConfigurationError: the head alone is to learn, and there is none of its own.
        """
        if configuration.learnt == "head" and not isinstance(getattr(model, HEAD, None), nn.Module):
            raise ConfigurationError(
                f"learnt=head: {model.registered_name} has no layer called '{HEAD}'", "train all of it: learnt=all"
            )
        size = model.preprocessing.size
        assert size is not None
        return ClassificationModule(
            model,
            configuration.training,
            tuple(splits.classes),
            configuration.augmentation.of_batches(size),
            Mixing(
                len(splits.classes),
                mixup=configuration.mixup,
                cutmix=configuration.cutmix,
                probability=configuration.mix_probability,
                switch=configuration.mix_switch,
                label_smoothing=configuration.label_smoothing,
            ),
            configuration.loss,
            head_only=configuration.learnt == "head",
        )

    def training_part(self, splits: DataSplits, model: EncoreModel) -> Samples:
        """The training pictures, cropped and resized as the model sees them."""
        return AsSeen(splits.train, model.preprocessing)

    def learns_all(self, configuration: ClassificationFit) -> bool:
        """Not where the head alone learns."""
        return configuration.learnt == "all"

    def training_set(self, splits: DataSplits, configuration: ClassificationFit, seed: int) -> Samples:
        """The training part, each picture cut at random where that is wanted; the rest happens to batches."""
        augmentation = configuration.augmentation
        if augmentation.crop != "resized":
            return ByEpoch(splits.train)
        image: Tensor = splits.val[0]["image"]
        return RandomCrops(
            splits.train,
            (int(image.shape[1]), int(image.shape[2])),
            scale=augmentation.crop_scale,
            proportions=augmentation.crop_proportions,
            seed=seed,
            interpolation=configuration.interpolation,
        )

    def loader(self, dataset: Samples, batch_size: int) -> DataLoader[Any]:
        """Stacked samples in order."""
        return plain_loader(dataset, batch_size)

    def example_batch(self, splits: DataSplits, configuration: ClassificationFit) -> tuple[Any, float]:
        """A batch of the validation part, whose pictures have their size."""
        size = min(len(splits.val), configuration.training.batch_size)
        return next(iter(self.loader(splits.val, size))), size / configuration.training.batch_size

    def forward(self, model: EncoreModel, batch: Any) -> Any:
        """The logits of pictures that have been cropped and resized."""
        return model(as_input(model, batch["image"]))

    @torch.no_grad()
    def measure(
        self,
        model: EncoreModel,
        dataset: Samples,
        runtime: Runtime,
        progress: ProgressReporter,
        stage: str,
    ) -> Metrics:
        """Accuracies in percent, log loss, per-class figures; the confusion matrix among the details."""
        model.to(device_of(runtime)).eval()
        assert model.classes is not None
        metrics = ClassificationMetrics(model.classes).to(model.device)
        total = len(dataset)
        one_size = model.preprocessing.size is not None
        for batch in self.loader(dataset, 64 if one_size else 1):
            logits = model(as_input(model, batch["image"]))
            metrics.update(logits, batch["label"].to(model.device))
            progress.update(stage, int(metrics.confusion.sum()), total)
        details = {"classes": list(model.classes), "confusion": metrics.confusion.cpu().tolist()}
        return Measured(metrics.compute(), details)

    def predict(
        self,
        model: EncoreModel,
        inputs: Sequence[Path],
        folder: Path,
        runtime: Runtime,
        progress: ProgressReporter,
    ) -> list[dict[str, Any]]:
        """Pictures beside their likeliest classes, and `predictions.jsonl`."""
        model = folded(model).to(device_of(runtime), memory_format=torch.channels_last)  # type: ignore[call-overload]
        return predict_files(model, inputs, folder, progress)

    def deployed(self, model: EncoreModel) -> Deployment:
        """Pictures in, one score per class out."""
        assert model.classes is not None
        return Deployment(
            PicturesToScores(model),
            inputs=(Port("image", "uint8", ("batch", 3, "height", "width")),),
            outputs=(Port("logits", "float32", ("batch", len(model.classes))),),
            sizes=EXAMPLE_SIZES,
        )

    def picture(
        self,
        models: Mapping[str, EncoreModel],
        dataset: Samples,
        path: Path,
        runtime: Runtime,
        num_samples: int = 8,
    ) -> None:
        """A sheet: pictures spread over `dataset`, their classes, and what each model takes them for."""
        total = len(dataset)
        indices = sorted({round(place * (total - 1) / max(num_samples - 1, 1)) for place in range(num_samples)})
        rows = []
        for index in indices:
            sample = dataset[index]
            answers = [_answer(model.to(device_of(runtime)).eval(), sample["image"]) for model in models.values()]
            names = next(iter(models.values())).classes
            assert names is not None
            rows.append((sample["image"], names[sample["label"]], answers))
        save_picture(sample_sheet(rows, list(models)), path)

    def figures(self, measured: Metrics, folder: Path) -> list[Path]:
        """The confusion matrix, as `confusion.png` and `confusion.json`."""
        details = details_of(measured)
        if not details:
            return []
        confusion_picture(torch.tensor(details["confusion"]), details["classes"], folder / "confusion.png")
        write_text(folder / "confusion.json", json.dumps(details, ensure_ascii=False) + "\n")
        return [folder / "confusion.png"]


@torch.no_grad()
def _answer(model: EncoreModel, image: Tensor) -> str:
    assert model.classes is not None
    return model.classes[int(model(as_input(model, image.unsqueeze(0))).argmax())]


class Renumbered:
    """A dataset with the class indices of a model that knows its classes by the same names."""

    def __init__(self, dataset: ImageDataset, indices: Sequence[int], classes: tuple[str, ...]) -> None:
        self.dataset, self.indices, self.classes = dataset, list(indices), classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample with its new label."""
        sample = self.dataset[index]
        return {**sample, "label": self.indices[sample["label"]]}


class PicturesToScores(nn.Module):
    """Pictures as they are → logits; preprocessing is inside, batch normalisation folded.

    Args:
        model: (B, 3, H, W), preprocessed → (B, K); a copy is kept.
    """

    def __init__(self, model: EncoreModel) -> None:
        super().__init__()
        self.preprocessing = model.preprocessing
        self.model = folded(model).cpu()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB → (B, K) float32."""
        logits: Tensor = self.model(self.preprocessing(image)).float()
        return logits


TASK = ClassificationTask()
