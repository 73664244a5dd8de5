"""What `encore fit classification` can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from encore.data.classification_augmentation import ClassificationAugmentation
from encore.tasks.base import FitConfiguration, ImageSize
from encore.tasks.classification.module import Loss


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
        replace_cases: after training, every case of a model that learns cases (prototypes) becomes the training picture
            nearest to it.
        least_purity: after training, cases are dropped of whose ten nearest training pictures a smaller share than this
            has the class that the case speaks for, 0…1; 0 keeps all. Where cases were replaced or dropped the head is
            fitted anew to the training part, and the metrics are those of what came out.
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
    replace_cases: bool = False
    least_purity: float = Field(default=0.0, ge=0, le=1)
    augmentation: ClassificationAugmentation = Field(default_factory=ClassificationAugmentation)
