"""The commands. Each checks its words, calls a verb and prints what it returns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import encore
from encore.base import registry
from encore.base.configuration import parse_settings
from encore.cli import catalogue, data, hub
from encore.cli.options import (
    Data,
    DeviceName,
    DeviceOption,
    Devices,
    FormatName,
    Json,
    Out,
    Precision,
    ProgressName,
    ProgressOption,
    Resume,
    ScaleName,
    Seed,
    Settings,
    print_json,
    reporting,
    runtime_of,
    stdout,
)

app = typer.Typer(
    name="encore",
    help="Encoder-decoder papers, performed again: on your own data, beside their baselines.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("list")(catalogue.list_command)
app.command("show")(catalogue.show_command)
app.add_typer(data.app, name="data")
app.command("serve")(hub.serve_command)
app.add_typer(hub.app, name="hub")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"encore {encore.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Encoder-decoder papers, performed again: on your own data, beside their baselines."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("run")
def run_command(
    paper: Annotated[str, typer.Argument(help="The paper's slug; see 'encore list'.")],
    scale: Annotated[ScaleName, typer.Option("--scale", help="smoke: seconds; laptop: minutes.")] = ScaleName.smoke,
    claim: Annotated[list[str] | None, typer.Option("--claim", help="Perform this claim; repeatable.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Repetitions; a verdict needs 3.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 if a claim did not hold.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    out: Out = None,
    resume: Resume = False,
    seed: Seed = 0,
    device: DeviceOption = DeviceName.auto,
    devices: Devices = 1,
    precision: Precision = "32-true",
    data: Data = None,
    settings: Settings = None,
    json: Json = False,
    progress: ProgressOption = ProgressName.bars,
) -> int:
    """Perform a paper's claims, method and baselines in one run."""
    card = registry.card(paper)
    registry.require_verb(card, "run")
    changes = parse_settings(settings or ())
    from encore.cli.printing import print_outcome, print_plan
    from encore.verbs import run as verb

    data_name = registry.room(paper, "recipe").RECIPE.data_name
    runtime = runtime_of(seed, device, devices, precision, data, data_name)
    if dry_run:
        plan = verb.plan(paper, scale=scale.value, claims=claim or (), seeds=seeds, settings=changes, runtime=runtime)
        print_plan(plan, as_json=json)
        return 0
    with reporting(progress) as reporter:
        outcome = verb.run(
            paper,
            scale=scale.value,
            claims=claim or (),
            seeds=seeds,
            settings=changes,
            out=out,
            resume=resume,
            runtime=runtime,
            progress=reporter,
        )
    print_outcome(outcome, as_json=json)
    broken = any(one.holds is False for one in outcome.record.claims)
    return 3 if strict and broken else 0


@app.command("fit")
def fit_command(
    name: Annotated[str, typer.Argument(metavar="PAPER|TASK", help="What to train.")],
    source: Annotated[str, typer.Argument(metavar="DATA", help="A folder, or the name of a data set.")],
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the training part.")] = None,
    out: Out = None,
    resume: Resume = False,
    seed: Seed = 0,
    device: DeviceOption = DeviceName.auto,
    devices: Devices = 1,
    precision: Precision = "32-true",
    data: Data = None,
    settings: Settings = None,
    json: Json = False,
    progress: ProgressOption = ProgressName.bars,
) -> None:
    """Train a paper's model, or any registered one, on your data."""
    if name in registry.cards():
        registry.require_verb(registry.card(name), "fit")
    changes = parse_settings(settings or ())
    runtime = runtime_of(seed, device, devices, precision, data)
    from encore.verbs.fit import fit

    with reporting(progress) as reporter:
        outcome = fit(
            name,
            source,
            epochs=epochs,
            settings=changes,
            out=out,
            resume=resume,
            runtime=runtime,
            progress=reporter,
        )
    if json:
        print_json({"run": str(outcome.folder), "metrics": outcome.metrics})
    else:
        from encore.cli.printing import print_metrics

        print_metrics(outcome.metrics)
        stdout().print(f"trained model: {outcome.folder}", soft_wrap=True, highlight=False)


@app.command("predict")
def predict_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder with a trained model.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files or folders.")],
    out: Out = None,
    device: DeviceOption = DeviceName.auto,
    json: Json = False,
    progress: ProgressOption = ProgressName.bars,
) -> None:
    """Apply a trained model to files."""
    from encore.base.runtime import Runtime
    from encore.verbs.apply import predict

    with reporting(progress) as reporter:
        rows = predict(run, inputs, out=out, runtime=Runtime(device=device.value), progress=reporter)
    if json:
        print_json({"predictions": rows})
    else:
        stdout().print(f"{len(rows)} predicted: {rows[0]['folder']}", soft_wrap=True, highlight=False)


@app.command("evaluate")
def evaluate_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder with a trained model.")],
    source: Annotated[str, typer.Argument(metavar="DATA", help="A folder, or the name of a data set.")],
    device: DeviceOption = DeviceName.auto,
    data: Data = None,
    json: Json = False,
    progress: ProgressOption = ProgressName.bars,
) -> None:
    """Measure a trained model on data with truth."""
    from encore.base.runtime import Runtime, parse_data_options
    from encore.verbs.apply import evaluate

    runtime = Runtime(device=device.value, data=parse_data_options(data or (), None))
    with reporting(progress) as reporter:
        metrics = evaluate(run, source, runtime=runtime, progress=reporter)
    if json:
        from encore.tasks.base import details_of

        print_json({"metrics": metrics, **details_of(metrics)})
    else:
        from encore.cli.printing import print_metrics

        print_metrics(metrics)


@app.command("ask")
def ask_command(
    paper: Annotated[str, typer.Argument(help="A paper that answers questions; see 'encore list'.")],
    question: Annotated[str | None, typer.Argument(help="One of its questions; none lists them.")] = None,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="What the question is about.")
    ] = None,
    out: Out = None,
    seed: Seed = 0,
    device: DeviceOption = DeviceName.auto,
    settings: Settings = None,
    json: Json = False,
    progress: ProgressOption = ProgressName.bars,
) -> None:
    """Ask a paper one of the questions that it answers."""
    registry.require_verb(registry.card(paper), "ask")
    from encore.base.runtime import Runtime
    from encore.cli.printing import print_answer, print_questions
    from encore.verbs import ask as verb

    if question is None:
        print_questions(paper, verb.questions(paper), as_json=json)
        return
    asked = verb.named_question(paper, question)
    values = verb.settings_from_words(asked, words or (), settings or ())
    runtime = Runtime(seed=seed, device=device.value)
    with reporting(progress) as reporter:
        answer = verb.ask(paper, question, values, out=out, runtime=runtime, progress=reporter)
    print_answer(answer, as_json=json)


@app.command("export")
def export_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder with a trained model.")],
    format: Annotated[FormatName, typer.Option("--format", help="What to write.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file: .onnx, .pt2 or .safetensors.")],
    json: Json = False,
) -> None:
    """Write a trained model for other runtimes, compared with the model."""
    from encore.cli.printing import print_exported
    from encore.verbs.export import export

    print_exported(export(run, format.value, out), as_json=json)


@app.command("compress")
def compress_command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder of lossless pictures, or an .npz.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to be written.")],
    codec: Annotated[str, typer.Option("--codec", help="The paper whose codec is used.")],
    model: Annotated[Path | None, typer.Option("--model", help="The RUN to code with.")] = None,
    json: Json = False,
    progress: ProgressOption = ProgressName.bars,
) -> None:
    """Write pictures or arrays as one small file."""
    registry.require_verb(registry.card(codec), "compress")
    from encore.cli.printing import print_codec
    from encore.verbs.compress import compress

    with reporting(progress) as reporter:
        report = compress(source, out, codec=codec, model=model, progress=reporter)
    print_codec(report, as_json=json)


@app.command("decompress")
def decompress_command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file that encore compress wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder or .npz to be written.")],
    model: Annotated[Path | None, typer.Option("--model", help="The RUN that it was coded with.")] = None,
    json: Json = False,
    progress: ProgressOption = ProgressName.bars,
) -> None:
    """Write back what was compressed."""
    from encore.cli.printing import print_codec
    from encore.verbs.compress import decompress

    with reporting(progress) as reporter:
        report = decompress(source, out, model=model, progress=reporter)
    print_codec(report, as_json=json)


@app.command("compare")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of finished runs.")],
    json: Json = False,
) -> None:
    """Put the measurements of several runs side by side, with intervals."""
    from encore.cli.printing import print_comparison
    from encore.verbs.compare import compare

    print_comparison(compare(runs), as_json=json)
