"""The task `masked-pretraining`: its configuration and the hooks of `Task`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from encore.base import registry
from encore.base.errors import ConfigurationError, DataError, UnknownNameError
from encore.base.files import write_text
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.classification import TASK as CLASSIFICATION
from encore.data.classification import open_classification
from encore.data.classification_augmentation import CropScale, RandomCrops
from encore.data.classification_folder import is_in_class_folders
from encore.data.contracts import DataSplits, Samples
from encore.data.images import read_image
from encore.data.named import named_set, named_sets
from encore.data.resizing import kept_if_small
from encore.data.unlabelled import WithoutTruth, open_images
from encore.nn.batch_norm import folded
from encore.nn.creation import create_model
from encore.nn.export import Deployment, Port
from encore.nn.model import ENCODER, EncoreModel, Preprocessing
from encore.tasks.base import FitConfiguration, ImageSize, Metrics, Task, TrainedModel, check_channels
from encore.tasks.inputs import input_files, unique_stems
from encore.tasks.masked_pretraining.model import MaskedAutoencoder
from encore.tasks.masked_pretraining.module import MaskedPretrainingModule, PaintEveryEpoch, fixed_mask
from encore.tasks.masked_pretraining.pictures import reconstruction_sheet
from encore.tasks.masked_pretraining.probes import probe_accuracies
from encore.tasks.sheets import save_picture
from encore.tasks.views import AsSeen, natural_size
from encore.training.configuration import TrainingConfiguration
from encore.training.loading import plain_loader
from encore.training.trainer import device_of, wait_for_all

PAINTED = 6
"""Pictures that are painted after every epoch."""

SUFFIX = ".png"
FEWEST = 10
"""Pictures, all parts together, below which there is nothing to learn."""


class MaskedPretrainingFit(FitConfiguration):
    """Keys of `encore fit masked-pretraining`.

    Attributes:
        image_size: (height, width) that the model sees, as `224`, `224x224` or `[224,224]`; null takes the pictures'
            own size where all have one of at most 256 pixels a side, and 224×224 else.
        crop_scale: smallest and largest share of a picture's area that a training sample shows.
        horizontal_flip: probability of a mirror image, 0…1.
    """

    model: str = "spark"
    image_size: ImageSize = None
    crop_scale: CropScale = (0.67, 1.0)
    horizontal_flip: float = Field(default=0.5, ge=0, le=1)
    training: TrainingConfiguration = TrainingConfiguration(recompute_batch_norm=False, schedule="cosine")

    def arguments(self, image_size: tuple[int, int]) -> dict[str, Any]:
        """What the model is made with."""
        return {"image_size": list(image_size), **self.model_arguments}

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size at which the model takes pictures whose own size is `size`."""
        return size


class LabelledPictures:
    """The pictures of a test part, and the labelled parts that it comes from."""

    classes: tuple[str, ...] = ()

    def __init__(self, parts: DataSplits) -> None:
        self.parts = parts
        self.pictures = WithoutTruth(parts.test)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Any:
        """Image and name."""
        return self.pictures[index]


class MaskedPretrainingTask(Task):
    """Painting what was hidden; the loss is the model's own."""

    name = "masked-pretraining"
    configuration = MaskedPretrainingFit
    better = "min"
    has_classes = False

    def monitor(self, configuration: MaskedPretrainingFit) -> str:
        """The loss on the validation part."""
        return "loss"

    def open_data(
        self, source: str, configuration: MaskedPretrainingFit, runtime: Runtime, progress: ProgressReporter
    ) -> DataSplits:
        """Any folder of pictures, an `.npz`, or a named set without its truth; unreadable files are left out."""
        splits = open_images(source, seed=runtime.seed, roots=runtime.data, progress=progress)
        return self.sized(splits, configuration)

    def sized(self, splits: DataSplits, configuration: MaskedPretrainingFit) -> DataSplits:
        """`splits` with val and test as the model sees them.

        Raises:
            DataError: all pictures are the same.
        """
        size = configuration.image_size or configuration.fitted(natural_size(splits.train))
        view = Preprocessing(size=size, crop_ratio=1.0, interpolation="bicubic")
        sized = kept_if_small(replace(splits, val=AsSeen(splits.val, view), test=AsSeen(splits.test, view)))
        check_variety(sized)
        return sized

    def open_part(
        self,
        source: str,
        model: EncoreModel,
        runtime: Runtime,
        *,
        progress: ProgressReporter | None = None,
        cut_seed: int | None = None,
    ) -> Samples:
        """The test part as the model sees it; of labelled data also all parts, for the probes."""
        seed = runtime.seed if cut_seed is None else cut_seed
        parts = _labelled(source, seed, runtime)
        if parts is None:
            splits = open_images(source, seed=seed, roots=runtime.data, progress=progress)
            return AsSeen(splits.test, model.preprocessing)
        seen = [AsSeen(part, model.preprocessing) for part in (parts.train, parts.val, parts.test)]
        return LabelledPictures(replace(parts, train=seen[0], val=seen[1], test=seen[2]))

    def prepare(self, model: EncoreModel, splits: DataSplits, configuration: MaskedPretrainingFit) -> None:
        """The task, and how pictures are brought to the model's size."""
        model.task = self.name
        model.preprocessing = replace(model.preprocessing, crop_ratio=1.0, interpolation="bicubic")

    def make_model(self, splits: DataSplits, configuration: MaskedPretrainingFit, seed: int) -> EncoreModel:
        """A fresh model for pictures of the data's size, initialised from `seed`.

        Raises:
            ConfigurationError: the model cannot be pre-trained by masking.
        """
        torch.manual_seed(seed)
        image: Tensor = splits.val[0]["image"]
        arguments = configuration.arguments((int(image.shape[1]), int(image.shape[2])))
        refused = ConfigurationError(
            f"'{configuration.model}' cannot be pre-trained by masking",
            "pre-train it as a backbone: encore fit spark DATA --set backbone=NAME",
        )
        try:
            model: EncoreModel = create_model(configuration.model, weights=configuration.weights, **arguments)
        except UnknownNameError:
            if hasattr(registry.model_factory(configuration.model), "draw_mask"):
                raise
            raise refused from None
        if not isinstance(model, MaskedAutoencoder):
            raise refused
        check_channels(model)
        self.prepare(model, splits, configuration)
        return model

    def module(
        self, model: EncoreModel, splits: DataSplits, configuration: MaskedPretrainingFit
    ) -> MaskedPretrainingModule:
        """The model with its optimiser."""
        return MaskedPretrainingModule(model, configuration.training)

    def training_part(self, splits: DataSplits, model: EncoreModel) -> Samples:
        """The training pictures, cropped and resized as the model sees them."""
        return AsSeen(splits.train, model.preprocessing)

    def training_set(self, splits: DataSplits, configuration: MaskedPretrainingFit, seed: int) -> Samples:
        """Random parts of the training pictures, some mirrored."""
        image: Tensor = splits.val[0]["image"]
        return RandomCrops(
            splits.train,
            (int(image.shape[1]), int(image.shape[2])),
            scale=configuration.crop_scale,
            seed=seed,
            horizontal_flip=configuration.horizontal_flip,
            interpolation="bicubic",
        )

    def loader(self, dataset: Samples, batch_size: int) -> DataLoader[Any]:
        """Stacked samples in order."""
        return plain_loader(dataset, batch_size)

    def forward(self, model: EncoreModel, batch: Any) -> Any:
        """The loss under a mask that is the same every time."""
        images = model.preprocess(batch["image"])
        return model(images, fixed_mask(model, len(images), 0).to(images.device))

    def example_batch(self, splits: DataSplits, configuration: MaskedPretrainingFit) -> tuple[Any, float]:
        """A few pictures of the validation part, which have the model's size."""
        size = min(4, len(splits.val), configuration.training.batch_size)
        return next(iter(self.loader(splits.val, size))), size / configuration.training.batch_size

    def callbacks(self, splits: DataSplits, folder: Path, progress: ProgressReporter) -> list[lightning.Callback]:
        """A picture of what is painted after every epoch."""
        images = [splits.val[index]["image"] for index in range(min(PAINTED, len(splits.val)))]
        return [PaintEveryEpoch(images, folder, progress)]

    def train(self, splits: DataSplits, configuration: Any, *, folder: Path, **work: Any) -> TrainedModel:
        """As `Task.train`; also leaves the encoder alone in `encoder/`."""
        trained = super().train(splits, configuration, folder=folder, **work)
        self.deliverable(trained.model).save(folder / ENCODER)
        wait_for_all()
        return trained

    @torch.no_grad()
    def measure(
        self,
        model: EncoreModel,
        dataset: Samples,
        runtime: Runtime,
        progress: ProgressReporter,
        stage: str,
    ) -> Metrics:
        """`masked_loss` under fixed masks; of labelled data also what the features are worth (see `probes`)."""
        model.to(device_of(runtime)).eval()
        total, loss = 0, 0.0
        for number, batch in enumerate(self.loader(dataset, 32)):
            images = model.preprocess(batch["image"])
            mask = fixed_mask(model, len(images), number).to(images.device)
            loss += float(model(images, mask)) * len(images)
            total += len(images)
            progress.update(stage, total, len(dataset))
        metrics: Metrics = {"masked_loss": loss / total}
        if isinstance(dataset, LabelledPictures):
            metrics |= probe_accuracies(model, dataset.parts, self.loader, progress, stage)
        return metrics

    @torch.no_grad()
    def predict(
        self,
        model: EncoreModel,
        inputs: Sequence[Path],
        folder: Path,
        runtime: Runtime,
        progress: ProgressReporter,
    ) -> list[dict[str, Any]]:
        """`<stem>.png` for every picture: itself, its visible part, and what the model paints; `predictions.jsonl`."""
        model = model.to(device_of(runtime)).eval()
        files = input_files(inputs)
        for step, file in enumerate(files, start=1):
            read_image(file)
            progress.update("checking pictures", step, len(files))
        rows = []
        for step, (file, stem) in enumerate(zip(files, unique_stems(files, (SUFFIX,)), strict=True), start=1):
            image = read_image(file).unsqueeze(0)
            inputs_ = model.preprocess(image)
            loss = float(model(inputs_, fixed_mask(model, 1, 0).to(inputs_.device)))
            save_picture(reconstruction_sheet({"painted": model}, image, 260), folder / f"{stem}{SUFFIX}")
            rows.append({"input": str(file), "picture": f"{stem}{SUFFIX}", "masked_loss": loss})
            progress.update("painting", step, len(files))
        write_text(folder / "predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return rows

    def deliverable(self, model: EncoreModel) -> EncoreModel:
        """The encoder, a plain backbone."""
        if not isinstance(model, MaskedAutoencoder):
            return model
        encoder = model.encoder_model()
        encoder.task = None
        encoder.preprocessing = model.preprocessing
        return encoder

    def deployed(self, model: EncoreModel) -> Deployment:
        """Pictures in, the encoder's feature maps out."""
        info: Any = model.feature_info
        assert model.preprocessing.size is not None
        height, width = model.preprocessing.size
        return Deployment(
            PicturesToFeatures(model),
            inputs=(Port("image", "uint8", ("batch", 3, "height", "width")),),
            outputs=tuple(
                Port(one.name, "float32", ("batch", one.num_channels, height // one.reduction, width // one.reduction))
                for one in info
            ),
            sizes=({"batch": 2, "height": 96, "width": 128}, {"batch": 1, "height": 75, "width": 61}),
        )

    def picture(
        self,
        models: Mapping[str, EncoreModel],
        dataset: Samples,
        path: Path,
        runtime: Runtime,
        num_samples: int = 6,
    ) -> None:
        """A sheet: pictures spread over `dataset`, their visible part, and what each model paints."""
        total = len(dataset)
        indices = sorted({round(place * (total - 1) / max(num_samples - 1, 1)) for place in range(num_samples)})
        images = torch.stack([dataset[index]["image"] for index in indices])
        there = {name: model.to(device_of(runtime)).eval() for name, model in models.items()}
        save_picture(reconstruction_sheet(there, images), path)


def _labelled(source: str, seed: int, runtime: Runtime) -> DataSplits | None:
    """The parts of `source` where its pictures have classes; None where they have not."""
    if source in named_sets() and named_set(source).task != CLASSIFICATION:
        return None
    if source not in named_sets() and not (Path(source).is_dir() and is_in_class_folders(Path(source))):
        return None
    try:
        return open_classification(source, seed=seed, roots=runtime.data)
    except DataError:
        if source in named_sets():
            raise
        return None  # folders that are no classes: a camera's, or years


class PicturesToFeatures(nn.Module):
    """Pictures as they are → a backbone's feature maps; preprocessing is inside, batch normalisation folded.

    Args:
        model: with `forward_features`; a copy is kept.
    """

    def __init__(self, model: EncoreModel) -> None:
        super().__init__()
        self.view = model.preprocessing
        self.preprocessing = replace(model.preprocessing, size=None)
        self.model = folded(model).cpu()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) uint8 RGB → the maps, (B, C_i, h_i, w_i) float32."""
        inputs = self.view.resized(self.preprocessing(image))
        backbone: Any = self.model
        maps: list[Tensor] = backbone.forward_features(inputs)
        return tuple(one.float() for one in maps)


def check_variety(splits: DataSplits) -> None:
    """See that there are some pictures and that they differ; from copies of one nothing can be learnt.

    Raises:
        DataError: fewer than ten, or the first hundred are all the same.
    """
    total = sum(splits.sizes().values())
    if total < FEWEST:
        raise DataError(f"{splits.name} has {total} pictures, too few to learn from", "give some hundreds")
    first: Tensor = splits.train[0]["image"]
    shown = min(len(splits.train), 100)
    if all(splits.train[index]["image"].equal(first) for index in range(1, shown)) and shown > 1:
        raise DataError(f"the pictures of {splits.name} are all the same", "give pictures that differ")


TASK = MaskedPretrainingTask()
