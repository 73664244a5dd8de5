"""`fit`: train a paper's model, or any registered one, on your own data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encore.base import registry
from encore.base.configuration import configure
from encore.base.errors import UnknownNameError
from encore.base.files import write_json
from encore.base.progress import ProgressReporter, SilentProgress
from encore.base.runs import RunFolder, default_folder
from encore.base.runtime import Runtime
from encore.data.contracts import DataSplits
from encore.nn.creation import load
from encore.nn.model import EncoreModel
from encore.results.environment import machine_in_words, package_versions
from encore.tasks.base import FitConfiguration, Metrics, Task, get_task, list_tasks
from encore.verbs.run import data_request, runtime_request

METRICS = "metrics.json"


@dataclass(frozen=True)
class FitOutcome:
    """What a training left.

    Attributes:
        folder: the run's folder, which `predict`, `evaluate` and `load` take.
        model: the trained model, in evaluation mode.
        metrics: of the test part.
    """

    folder: Path
    model: EncoreModel
    metrics: Metrics


def fit(
    name: str,
    data: str | Path,
    *,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    runtime: Runtime | None = None,
    progress: ProgressReporter | None = None,
) -> FitOutcome:
    """Train on your data.

    Args:
        name: a paper (`segnet`) or a task (`segmentation`, which takes `settings={"model": …}`).
        data: a folder or file in the layout of the task, or a named set.
        epochs: short for `settings={"training.epochs": …}`.
        settings: changes to the configuration.
        out: the run's folder; `runs/<name>-<date>-<time>` by default.
        resume: continue the training in `out`.
        runtime: seed, device, precision, folders of named data.
        progress: told of all work.

    Raises:
        InputError: whatever the user can mend.
    """
    task, kind, defaults = _what_to_train(name, str(data))
    settings = dict(settings or {})
    if epochs is not None:
        settings["training.epochs"] = epochs
    configuration = configure(kind, settings, defaults)
    registry.owner_of_model(configuration.model)
    runtime, progress = runtime or Runtime(), progress or SilentProgress()
    splits = task.open_data(str(data), configuration, runtime, progress)
    check_samples(splits, progress)
    request = {
        "verb": "fit",
        "name": name,
        "data": data_request(data),
        "configuration": configuration.model_dump(mode="json"),
        "runtime": runtime_request(runtime),
    }
    with RunFolder(out or default_folder(name), request, resume=resume) as folder:
        progress.message(f"run folder: {folder.path}")
        done = folder.finished("metrics")
        if done is not None:
            return FitOutcome(folder.path, load(folder.path), done["metrics"])
        trained = task.train(
            splits,
            configuration,
            runtime=runtime,
            folder=folder.path,
            progress=progress,
            stage=f"training {name}",
        )
        picture = folder.path / "examples.png"
        task.picture({trained.model.registered_name or name: trained.model}, splits.test, picture, runtime)
        for path in (picture, *task.figures(trained.test, folder.path)):
            progress.picture(name, path)
        write_json(folder.path / "curves.json", trained.outcome.curves)
        write_json(
            folder.path / METRICS,
            {
                "metrics": trained.test,
                "validation": trained.validation,
                "best_epoch": trained.outcome.best_epoch,
                "seconds": round(trained.outcome.seconds, 1),
                "data": {
                    "name": splits.name,
                    "sizes": splits.sizes(),
                    "origin": splits.origin,
                    "skipped": list(splits.skipped),
                },
                "versions": package_versions(),
                "machine": machine_in_words(),
            },
        )
        return FitOutcome(folder.path, trained.model, trained.test)


def check_samples(splits: DataSplits, progress: ProgressReporter) -> None:
    """Read every sample once, so that a damaged one is named before anything is written.

    Sets that are kept in memory are read only this one time.

    Raises:
        DataError: a sample is damaged.
    """
    parts = (splits.train, splits.val, splits.test)
    total, step = sum(len(part) for part in parts), 0
    for part in parts:
        for index in range(len(part)):
            part[index]
            step += 1
            progress.update("reading data", step, total)


def _what_to_train(name: str, source: str) -> tuple[Task, type[FitConfiguration], dict[str, Any]]:
    """The task, the configuration's class and its defaults for a paper or a task.

    A paper of several tasks is fitted for the one that says that it takes `source`, else for its first.

    Raises:
        UnknownNameError: neither a paper nor a task.
        InputError: the paper has no `fit`.
    """
    if name in list_tasks():
        task = get_task(name)
        return task, task.configuration, {}
    if name not in registry.cards():
        raise UnknownNameError("paper or task", name, [*registry.cards(), *list_tasks()])
    card = registry.card(name)
    registry.require_verb(card, "fit")
    others = [get_task(one) for one in card.tasks[1:] if one in list_tasks()]
    for task in others:
        if task.takes(source):
            models = [one for one in card.models if getattr(registry.model_factory(one), "task", None) == task.name]
            return task, task.configuration, {"model": models[0]} if models else {}
    task = get_task(card.tasks[0])
    own = getattr(registry.room(name, "recipe"), "FitConfiguration", None)
    return (task, task.configuration, {"model": card.models[0]}) if own is None else (task, own, {})
