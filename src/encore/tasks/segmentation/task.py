"""The task `segmentation`: its configuration and the hooks of `Task`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader

from encore.base.errors import DataError
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.augmentation import Augmented, SegmentationAugmentation
from encore.data.contracts import DataSplits, Samples, SegmentationSample
from encore.data.named import open_segmentation, open_segmentation_part
from encore.nn.batch_norm import folded
from encore.nn.export import Deployment, PicturesToMaps, Port
from encore.nn.model import EncoreModel
from encore.nn.monte_carlo import StochasticModel
from encore.tasks.base import FitConfiguration, ImageSize, Metrics, Task
from encore.tasks.segmentation.balancing import median_frequency_weights
from encore.tasks.segmentation.losses import SegmentationLoss
from encore.tasks.segmentation.metrics import SegmentationMetrics
from encore.tasks.segmentation.module import SegmentationModule, predicted_mask
from encore.tasks.segmentation.pictures import class_colours, sample_sheet
from encore.tasks.segmentation.prediction import predict_files
from encore.tasks.segmentation.uncertainty import answer_at
from encore.tasks.sheets import save_picture
from encore.training.loading import plain_loader
from encore.training.trainer import device_of

EXAMPLE_SIZES = (
    {"batch": 2, "height": 96, "width": 128},
    {"batch": 1, "height": 75, "width": 61},
    {"batch": 3, "height": 32, "width": 97},
)
"""At the first an exported model is traced, at the others the file is compared with it."""


class SegmentationFit(FitConfiguration):
    """Keys of `encore fit segmentation`.

    Attributes:
        image_size: (height, width) to which pictures and masks are resized, as `90x120` or `[90,120]`;
            null takes them as they are, or the most common size where they differ.
        class_balancing: weights of the classes in the loss: `none`, `median_frequency` (Eigen & Fergus
            2015) or its square root.
        monitor: the validation metric that picks the model.
        loss_normalisation: divide the loss by the sum of `weights`, as PyTorch does, or by the number of
            `pixels`, as Caffe does.
        augmentation: of the training part.
    """

    model: str = "segnet_basic"
    image_size: ImageSize = None
    class_balancing: Literal["none", "median_frequency", "sqrt_median_frequency"] = "sqrt_median_frequency"
    loss_normalisation: Literal["weights", "pixels"] = "weights"
    monitor: Literal["mean_iou", "global_accuracy", "class_accuracy"] = "mean_iou"
    augmentation: SegmentationAugmentation = Field(default_factory=SegmentationAugmentation)


class SegmentationTask(Task):
    """A class for every pixel; metrics in percent."""

    name = "segmentation"
    configuration = SegmentationFit

    def monitor(self, configuration: SegmentationFit) -> str:
        """The configured one."""
        return configuration.monitor

    def open_data(
        self, source: str, configuration: SegmentationFit, runtime: Runtime, progress: ProgressReporter
    ) -> DataSplits:
        """Open images/ + masks/, an `.npz`, or a named set."""
        return open_segmentation(source, image_size=configuration.image_size, seed=runtime.seed, roots=runtime.data)

    def open_part(
        self,
        source: str,
        model: EncoreModel,
        runtime: Runtime,
        *,
        progress: ProgressReporter | None = None,
        cut_seed: int | None = None,
    ) -> Samples:
        """The test part of `source` at its own size, its classes checked against the model's.

        Raises:
            DataError: there are more classes than the model has, or, where both name theirs, other ones.
        """
        known = model.classes or ()
        dataset = open_segmentation_part(source, roots=runtime.data, num_classes=len(known), cut_seed=cut_seed)
        theirs = tuple(dataset.classes)
        named = _are_named(theirs) and _are_named(known)
        renamed = named and [name.lower() for name in theirs] != [name.lower() for name in known]
        if len(theirs) > len(known) or renamed:
            raise DataError(
                f"{source} has the classes {', '.join(theirs)}, but the model learnt {', '.join(known)}",
                "evaluate on masks with the model's classes, in its order",
            )
        return dataset

    def prepare(self, model: EncoreModel, splits: DataSplits, configuration: SegmentationFit) -> None:
        """Classes, colours, and the size the model is trained at."""
        model.task = self.name
        model.classes = tuple(splits.classes)
        model.colours = splits.colours or class_colours(len(splits.classes))
        height, width = splits.train[0]["mask"].shape
        model.preprocessing = replace(model.preprocessing, size=(height, width))

    def module(self, model: EncoreModel, splits: DataSplits, configuration: SegmentationFit) -> SegmentationModule:
        """The model with its balanced cross-entropy."""
        weights = None
        if configuration.class_balancing != "none":
            power = 0.5 if configuration.class_balancing.startswith("sqrt") else 1.0
            masks = (splits.train[index]["mask"] for index in range(len(splits.train)))
            weights = median_frequency_weights(masks, len(splits.classes), power=power)
        loss = SegmentationLoss(
            len(splits.classes), class_weights=weights, normalisation=configuration.loss_normalisation
        )
        return SegmentationModule(model, loss, configuration.training, tuple(splits.classes))

    def training_set(self, splits: DataSplits, configuration: SegmentationFit, seed: int) -> Samples:
        """The augmented training part."""
        return Augmented(splits.train, configuration.augmentation, seed)

    def loader(self, dataset: Samples, batch_size: int) -> DataLoader[Any]:
        """Stacked samples in order."""
        return plain_loader(dataset, batch_size)

    @torch.no_grad()
    def measure(
        self,
        model: EncoreModel,
        dataset: Samples,
        runtime: Runtime,
        progress: ProgressReporter,
        stage: str,
    ) -> Metrics:
        """G, C, mIoU, boundary F1 and per-class figures at the size of the masks, in percent."""
        model.to(device_of(runtime)).eval()
        assert model.classes is not None
        metrics = SegmentationMetrics(model.classes).to(model.device)
        total = len(dataset)
        step = 0
        for images, masks in same_sized_batches(dataset, batch_size=8):
            labels = answer_at(model, images, tuple(masks.shape[-2:])).labels
            metrics.update(labels, masks.to(model.device).long())
            step += len(images)
            progress.update(stage, step, total)
        return metrics.compute()

    def predict(
        self,
        model: EncoreModel,
        inputs: Sequence[Path],
        folder: Path,
        runtime: Runtime,
        progress: ProgressReporter,
    ) -> list[dict[str, Any]]:
        """Index PNGs, overlays and `predictions.jsonl` for pictures of any size."""
        model = folded(model).to(device_of(runtime), memory_format=torch.channels_last)  # type: ignore[call-overload]
        return predict_files(model, inputs, folder, progress)

    def deployed(self, model: EncoreModel) -> Deployment:
        """Pictures in, one map of scores per class out, at the pictures' size."""
        assert model.classes is not None
        note = "a single pass without dropout" if isinstance(model, StochasticModel) else None
        return Deployment(
            PicturesToMaps(model),
            inputs=(Port("image", "uint8", ("batch", 3, "height", "width")),),
            outputs=(Port("logits", "float32", ("batch", len(model.classes), "height", "width")),),
            sizes=EXAMPLE_SIZES,
            note=note,
        )

    def picture(
        self,
        models: Mapping[str, EncoreModel],
        dataset: Samples,
        path: Path,
        runtime: Runtime,
        num_samples: int = 4,
    ) -> None:
        """A sheet: picture, truth, and the masks of each model, for samples spread over `dataset`."""
        total = len(dataset)
        indices = sorted({round(place * (total - 1) / max(num_samples - 1, 1)) for place in range(num_samples)})
        one = next(iter(models.values()))
        assert one.classes is not None
        rows = []
        for index in indices:
            sample: SegmentationSample = dataset[index]
            masks = [predicted_mask(model.to(device_of(runtime)).eval(), sample["image"]) for model in models.values()]
            rows.append((sample["image"], [sample["mask"], *masks]))
        colours = one.colours or class_colours(len(one.classes))
        headings = ["picture", "truth", *models]
        save_picture(sample_sheet(rows, headings, one.classes, colours), path)


def _are_named(classes: Sequence[str]) -> bool:
    """Whether classes have names of their own, not the numbers of a source that does not name them."""
    return any(name != f"class_{index}" for index, name in enumerate(classes))


def same_sized_batches(dataset: Samples, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, masks) stacks in order; a new batch begins wherever the size changes."""
    images: list[Tensor] = []
    masks: list[Tensor] = []
    for index in range(len(dataset)):
        sample: SegmentationSample = dataset[index]
        if images and (len(images) == batch_size or sample["image"].shape != images[0].shape):
            yield torch.stack(images), torch.stack(masks)
            images, masks = [], []
        images.append(sample["image"])
        masks.append(sample["mask"])
    if images:
        yield torch.stack(images), torch.stack(masks)


TASK = SegmentationTask()
