"""What `encore fit tabular-classification` can be told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from encore.data.tabular_columns import Missing
from encore.tasks.base import FitConfiguration
from encore.training.configuration import TrainingConfiguration


def _as_name(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _one_or_more(value: Any) -> Any:
    if isinstance(value, str) and value[:1] + value[-1:] == "[]":  # a shell has taken the quotes off
        value = [name.strip() for name in value[1:-1].split(",")]
    return tuple(map(_as_name, value)) if isinstance(value, list | tuple) else (_as_name(value),)


Name = Annotated[str, BeforeValidator(_as_name)]
"""The name of a column, which may look like a number (`2020`)."""

Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
"""Names of columns, as `["id","code"]` or `[id,code]` or, of one alone, `id`."""


class TabularFit(FitConfiguration):
    """Keys of `encore fit tabular-classification`.

    Attributes:
        target: the column of the classes; null takes the one called label, class, target or species, else the last.
        ignore: columns that are left out.
        categorical: columns of numbers that are categories (codes).
        missing: `refuse` tables with missing cells, or fill them with the training part's `median` (of texts the
            commonest level), which the model keeps.
        train_samples: how many of the training rows are used, every class with its share; null for all.
        label_smoothing: share of the target that is spread over all classes, 0…1.
        monitor: the validation metric that picks the model: `log_likelihood`, the mean log-probability of the right
            class, tells models apart on few rows; or an accuracy.
        replace_cases: after training, every case of a model that learns cases (prototypes) becomes the training row
            nearest to it; the head stays.
        least_purity: after training, cases are dropped of whose ten nearest training rows a smaller share than this
            has the class that the case speaks for, 0…1; 0 keeps all, and the purest of every class stays, or of all
            where they belong to none. The head then follows a few steps.
    """

    model: str = "mlp"
    target: Name | None = None
    ignore: Names = ()
    categorical: Names = ()
    missing: Missing = "refuse"
    train_samples: int | None = Field(default=None, ge=2)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    monitor: Literal["log_likelihood", "accuracy", "class_accuracy"] = "log_likelihood"
    replace_cases: bool = False
    least_purity: float = Field(default=0.0, ge=0, le=1)
    training: TrainingConfiguration = TrainingConfiguration(
        epochs=100, batch_size=32, learning_rate=1e-2, weight_decay=1e-2, channels_last=False
    )
