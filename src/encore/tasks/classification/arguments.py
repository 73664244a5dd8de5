"""Arguments of a classifier: what the user sets, and what the data say."""

from __future__ import annotations

import inspect
from typing import Any

from encore.base import registry
from encore.base.errors import ConfigurationError
from encore.data.contracts import DataSplits, Samples
from encore.nn.model import EncoreModel
from encore.tasks.classification.configuration import ClassificationFit
from encore.tasks.own_ways import HasOwnLoss


def arguments_for(splits: DataSplits, configuration: ClassificationFit) -> dict[str, Any]:
    """`model_arguments`, beside the number of classes and what else the model may take of the data.

    Raises:
        ConfigurationError: the user sets another number of classes.
    """
    given, due = configuration.model_arguments, len(splits.classes)
    if given.get("num_classes", due) != due:
        raise ConfigurationError(
            f"model_arguments.num_classes is {given['num_classes']}, but {splits.name} has {due} classes",
            "leave it out",
        )
    return {"num_classes": due, **_of_the_data(splits, configuration), **given}


def check_loss(model: EncoreModel, configuration: ClassificationFit) -> None:
    """See that the loss that is set is the one that the model learns by.

    Raises:
        ConfigurationError: the model has its own.
    """
    if configuration.loss != "cross_entropy" and isinstance(model, HasOwnLoss):
        raise ConfigurationError(
            f"loss={configuration.loss}: '{configuration.model}' learns by a loss of its own", "leave it out"
        )


def _of_the_data(splits: DataSplits, configuration: ClassificationFit) -> dict[str, Any]:
    """Arguments that a model may take of the data: `image_size`, and `num_channels`, 1 where all pictures are grey."""
    takes = inspect.signature(registry.model_factory(configuration.model)).parameters
    found: dict[str, Any] = {}
    if configuration.weights is not None:
        return found
    if "image_size" in takes:
        found["image_size"] = list(splits.view.size)
    if "num_channels" in takes and "num_channels" not in configuration.model_arguments:
        found["num_channels"] = 1 if _all_grey(splits.train) else 3
    return found


def _all_grey(samples: Samples) -> bool:
    """Whether the channels of every picture are alike, of a thousand spread over `samples`."""
    step = max(len(samples) // 1000, 1)
    pictures = (samples[index]["image"] for index in range(0, len(samples), step))
    return all(bool((image == image[:1]).all()) for image in pictures)
