"""`run`: perform a paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from encore.base import registry
from encore.base.errors import ConfigurationError
from encore.base.files import write_json
from encore.base.progress import ProgressReporter, SilentProgress
from encore.base.runs import RunFolder, default_folder
from encore.base.runtime import Runtime, Scale
from encore.nn.model import CONFIG, Preprocessing
from encore.results.performance import Performance, Plan, Recipe, seeds_of, selected_claims
from encore.results.record import RESULT, ResultRecord, read_record
from encore.results.report import write_report


@dataclass(frozen=True)
class RunOutcome:
    """What a performance left.

    Attributes:
        folder: the run's folder.
        record: what `result.json` holds.
    """

    folder: Path
    record: ResultRecord


def run(
    paper: str,
    *,
    scale: Scale = "smoke",
    claims: Sequence[str] = (),
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    runtime: Runtime | None = None,
    progress: ProgressReporter | None = None,
) -> RunOutcome:
    """Perform the claims of a paper: method and baselines in one run, on the same data.

    Args:
        paper: its slug.
        scale: `smoke` (seconds), `laptop` (minutes) or `paper` (its own setting).
        claims: ids of the claims to perform; all by default.
        seeds: how many repetitions; the recipe's number by default.
        settings: changes to the recipe's configuration.
        out: the run's folder; `runs/<paper>-<date>-<time>` by default.
        resume: continue the run in `out`.
        runtime: seed, device, precision, folders of named data.
        progress: told of all work.

    Raises:
        InputError: whatever the user can mend.
    """
    recipe, performance = prepare(
        paper, scale=scale, claims=claims, seeds=seeds, settings=settings, runtime=runtime, progress=progress
    )
    request = {
        "verb": "run",
        "paper": paper,
        "scale": scale,
        "claims": [claim.id for claim in performance.claims],
        "seeds": list(performance.seeds),
        "configuration": performance.configuration.model_dump(mode="json"),
        "runtime": runtime_request(performance.runtime),
    }
    with RunFolder(out or default_folder(paper), request, resume=resume) as folder:
        if folder.resumed and (folder.path / RESULT).is_file():
            return RunOutcome(folder.path, read_record(folder.path))
        performance.folder = folder
        performance.progress.message(f"run folder: {folder.path}")
        recipe.perform(performance)
        if not (folder.path / CONFIG).is_file():
            write_json(folder.path / CONFIG, {"encore": _description(performance)})
        record = performance.result()
        write_report(record, folder.path)
        record.write(folder.path)
        return RunOutcome(folder.path, record)


def _description(performance: Performance) -> dict[str, Any]:
    """What `config.json` says of a run that trained nothing."""
    card = performance.card
    return {
        "name": card.models[0] if card.models else card.slug,
        "task": card.tasks[0],
        "configuration": {},
        "preprocessing": asdict(Preprocessing()),
        "classes": None,
        "colours": None,
    }


def plan(
    paper: str,
    *,
    scale: Scale = "smoke",
    claims: Sequence[str] = (),
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    runtime: Runtime | None = None,
) -> Plan:
    """What `run` would do: data, arms, time, memory, disk. Writes nothing."""
    recipe, performance = prepare(
        paper, scale=scale, claims=claims, seeds=seeds, settings=settings, runtime=runtime, progress=None
    )
    return recipe.plan(performance)


def prepare(
    paper: str,
    *,
    scale: Scale,
    claims: Sequence[str],
    seeds: int | None,
    settings: Mapping[str, Any] | None,
    runtime: Runtime | None,
    progress: ProgressReporter | None,
) -> tuple[Recipe, Performance]:
    """Check a request and put a performance together; nothing is written."""
    card = registry.card(paper)
    registry.require_verb(card, "run")
    chosen = selected_claims(card, claims)
    if seeds is not None and seeds < 1:
        raise ConfigurationError(f"--seeds {seeds} repeats nothing", "give at least 1; a verdict needs 3")
    recipe: Recipe = registry.room(paper, "recipe").RECIPE
    runtime = runtime or Runtime()
    performance = Performance(
        card=card,
        scale=scale,
        claims=chosen,
        seeds=seeds_of(runtime.seed, seeds or recipe.default_seeds[scale]),
        configuration=recipe.configuration(scale, settings or {}),
        runtime=runtime,
        progress=progress or SilentProgress(),
    )
    return recipe, performance


def data_request(data: str | Path) -> str:
    """What `request.json` calls data: the whole path of what lies on disk, else the name."""
    return str(Path(data).resolve()) if Path(data).exists() else str(data)


def runtime_request(runtime: Runtime) -> dict[str, Any]:
    """The runtime as JSON values, for `request.json`: what a resumed run has to share."""
    return {**asdict(runtime), "data": {name: str(path.resolve()) for name, path in runtime.data.items()}}
