"""`predict` and `evaluate`: a trained model on files and on data with truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encore.base import registry
from encore.base.cards import Verb
from encore.base.errors import RunFolderError
from encore.base.progress import ProgressReporter, SilentProgress
from encore.base.runs import RunFolder, default_folder, read_request
from encore.base.runtime import Runtime
from encore.nn.creation import load
from encore.nn.model import EncoreModel
from encore.tasks.base import Metrics, Task, get_task
from encore.verbs.run import data_request, runtime_request


def predict(
    run: str | Path,
    inputs: Sequence[str | Path] | str | Path,
    *,
    out: Path | str | None = None,
    runtime: Runtime | None = None,
    progress: ProgressReporter | None = None,
) -> list[dict[str, Any]]:
    """Apply a trained model to files.

    Args:
        run: a RUN's folder, what `save_pretrained` left, or `hf://owner/name`.
        inputs: files or folders.
        out: where results, pictures and `predictions.jsonl` go; `runs/predict-<date>-<time>` by default.
        runtime: device.
        progress: told of all work.

    Returns:
        The rows of `predictions.jsonl`, with `folder`, where the files are, added.

    Raises:
        InputError: whatever the user can mend.
    """
    task, model = opened(run, "predict")
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    runtime = runtime or Runtime()
    request = {"verb": "predict", "run": str(run), "inputs": [str(path) for path in paths]}
    request["runtime"] = runtime_request(runtime)  # type: ignore[assignment]
    with RunFolder(out or default_folder("predict"), request) as folder:
        rows = task.predict(model, paths, folder.path, runtime, progress or SilentProgress())
        return [{"folder": str(folder.path), **row} for row in rows]


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    runtime: Runtime | None = None,
    progress: ProgressReporter | None = None,
) -> Metrics:
    """Measure a trained model on data with truth: its test part, or all of it where it has no parts.

    Data without parts on which `fit` trained the model are cut as they were then, and the test part is measured.

    Args:
        run: as for `predict`.
        data: a folder in the layout of the task, or a named set.
        runtime: device, folders of named data.
        progress: told of all work.

    Returns:
        Every metric of the task; None where it cannot be had (a class that does not occur).

    Raises:
        InputError: whatever the user can mend.
    """
    task, model = opened(run, "evaluate")
    runtime = runtime or Runtime()
    progress = progress or SilentProgress()
    cut_seed = _seed_of_training(run, data)
    dataset = task.open_part(str(data), model, runtime, progress=progress, cut_seed=cut_seed)
    return task.measure(model, dataset, runtime, progress, "evaluating")


def _seed_of_training(run: str | Path, data: str | Path) -> int | None:
    """The seed of the training that left `run`, if that was on the same data; it may have cut them."""
    request = read_request(Path(run))
    same = request.get("verb") == "fit" and request.get("data") == data_request(data)
    return int(request["runtime"]["seed"]) if same else None


def opened(run: str | Path, verb: Verb) -> tuple[Task, EncoreModel]:
    """The model of `run` and its task, if the paper has `verb`.

    Raises:
        InputError: it is no run, or the paper lacks the verb.
    """
    model = load(run)
    if model.task is None or model.registered_name is None:
        raise RunFolderError(f"{run} does not say what it was trained for", "give a folder that encore fit left")
    registry.require_model_verb(model.registered_name, verb)
    task = get_task(model.task)
    if model.classes is None and task.has_classes:
        raise RunFolderError(f"{run} names no classes", "give a folder that encore fit or encore run left")
    return task, model
