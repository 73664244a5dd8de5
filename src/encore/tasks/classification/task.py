"""The task `classification`: the hooks of `Task`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from encore.base.errors import ConfigurationError, DataError
from encore.base.files import write_text
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.classification import open_classification, open_classification_part
from encore.data.classification_augmentation import RandomCrops
from encore.data.contracts import DataSplits, ImageDataset, Samples
from encore.data.resizing import kept_if_small, labels_of, sizes_of
from encore.data.splits import some
from encore.nn.batch_norm import folded
from encore.nn.creation import create_model, size_of_weights
from encore.nn.export import Deployment, Port
from encore.nn.model import EncoreModel, Preprocessing
from encore.tasks.base import (
    Measured,
    Metrics,
    Task,
    TrainedModel,
    check_channels,
    check_kind,
    details_of,
)
from encore.tasks.classification.arguments import arguments_for, check_loss
from encore.tasks.classification.cases import (
    CASES_BATCH,
    LearnsCases,
    check_every_class,
    check_learns_cases,
    neighbours,
    pruned,
    refit_head,
    write_cases,
)
from encore.tasks.classification.configuration import ClassificationFit
from encore.tasks.classification.metrics import ClassificationMetrics
from encore.tasks.classification.mixing import Mixing
from encore.tasks.classification.module import HEAD, ClassificationModule
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
        """As `Task.make_model`; where the weights are of other classes, the head begins afresh.

        A model that is made for pictures of one size or number of channels is made for those of the data.

        Raises:
            ConfigurationError: settings that do not go with the data, or with this model.
            DataError: a class that prototypes belong to has no training picture.
        """
        torch.manual_seed(seed)
        model: EncoreModel = create_model(
            configuration.model,
            weights=configuration.weights,
            fresh=(HEAD,),
            **arguments_for(splits, configuration),
        )
        check_kind(model, self.name)
        check_channels(model)
        check_learns_cases(model, replaced=configuration.replace_cases, least_purity=configuration.least_purity)
        check_every_class(model, labels_of(splits.train), splits.classes)
        check_loss(model, configuration)
        self.prepare(model, splits, configuration)
        return model

    def train(
        self,
        splits: DataSplits,
        configuration: ClassificationFit,
        *,
        runtime: Runtime,
        folder: Path,
        progress: ProgressReporter,
        stage: str,
    ) -> TrainedModel:
        """As `Task.train`; of a model that learns cases it also leaves what they are, and replaces or drops them."""
        trained = super().train(splits, configuration, runtime=runtime, folder=folder, progress=progress, stage=stage)
        return self.with_cases(trained, splits, configuration, runtime, folder, progress, stage)

    def with_cases(
        self,
        trained: TrainedModel,
        splits: DataSplits,
        configuration: ClassificationFit,
        runtime: Runtime,
        folder: Path,
        progress: ProgressReporter,
        stage: str,
    ) -> TrainedModel:
        """`trained` with its cases replaced or dropped as configured, and shown in `folder`; others as they are."""
        model = trained.model
        if not isinstance(model, LearnsCases):
            return trained
        samples = self.training_part(splits, model)
        owners = None if model.owners is None else model.owners.cpu()
        found = neighbours(model, self.loader(samples, CASES_BATCH))
        kept = pruned(found.purity.cpu(), configuration.least_purity, owners)
        if configuration.replace_cases:
            model.replace_by_nearest(found.codes, found.labels)
        if configuration.replace_cases or configuration.least_purity:
            model.prune(kept)
            refit_head(model, self.loader(samples, CASES_BATCH))
            found = neighbours(model, self.loader(samples, CASES_BATCH))
            validation = self.measure(model, splits.val, runtime, progress, f"{stage}: validation")
            test = self.measure(model, splits.test, runtime, progress, f"{stage}: test")
            trained = replace(trained, validation=validation, test=test)
            model.save(folder)
        progress.picture(stage, write_cases(model, found, samples, folder, replaced=configuration.replace_cases))
        return trained

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
