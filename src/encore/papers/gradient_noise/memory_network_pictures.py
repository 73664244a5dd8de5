"""Pictures of what memory networks learnt: their errors task by task, and where they look for an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from encore.base.files import replacing
from encore.results.plots import PALETTE


def error_picture(
    errors: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], titles: Sequence[str], path: Path
) -> None:
    """Validation errors of every task with and without noise, a panel for each kind of training.

    Args:
        errors: by kind of training (`one stage`), by `noise` and `no noise`: for each task its seeds'
            errors in per cent.
        titles: of the tasks.
        path: of the PNG.
    """
    styles = {"noise": (PALETTE[0], -0.16), "no noise": (PALETTE[1], 0.16)}
    figure = Figure(figsize=(1.9 + 2.9 * len(errors), 1.2 + 0.27 * len(titles)), layout="constrained")
    panels = figure.subplots(1, len(errors), sharey=True, sharex=True, squeeze=False).ravel()
    for axes, (training, ways) in zip(panels, errors.items(), strict=True):
        for way, tasks in ways.items():
            colour, shift = styles[way]
            means = [sum(seeds) / len(seeds) for seeds in tasks]
            places = [place + shift for place in range(len(tasks))]
            axes.barh(places, means, height=0.3, color=colour, alpha=0.35)
            for place, seeds in zip(places, tasks, strict=True):
                axes.plot(seeds, [place] * len(seeds), "o", color=colour, markersize=2.6)
            label = f"{way}: {sum(means) / len(means):.1f} % on average"
            axes.plot([], [], "o-", linewidth=5, markersize=3, alpha=0.6, color=colour, label=label)
        axes.set_title(training, loc="left", fontsize=10)
        axes.set_xlabel("validation error, %", fontsize=9)
        axes.grid(axis="x", color="#e5e5e5")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.06))
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_yticks(range(len(titles)), titles)
    panels[0].set_ylim(len(titles) - 0.5, -0.5)
    panels[0].set_xlim(left=0)
    _save(figure, path)


def attention_picture(story: Mapping[str, Any], path: Path) -> None:
    """Where each hop of a network looks for the answer to one question.

    Args:
        story: `statements` (oldest first), `supporting` (places), `question`, `answer`, `said`, and `attention`, for
            each hop a weight per statement.
        path: of the PNG.
    """
    statements, hops = story["statements"], story["attention"]
    figure = Figure(figsize=(6.2, 1.5 + 0.26 * len(statements)), layout="constrained")
    axes = figure.subplots()
    weights = [[hop[place] for hop in hops] for place in range(len(statements))]
    picture = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for place, row in enumerate(weights):
        for hop, weight in enumerate(row):
            shade = "white" if weight > 0.55 else "#333333"
            axes.text(hop, place, f"{weight:.2f}", ha="center", va="center", fontsize=8, color=shade)
    axes.set_xticks(range(len(hops)), [f"hop {hop + 1}" for hop in range(len(hops))], fontsize=9)
    axes.set_yticks(range(len(statements)), statements, fontsize=9)
    for place, label in enumerate(axes.get_yticklabels()):
        label.set_fontweight("bold" if place in story["supporting"] else "normal")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.suptitle(f"{story['question']}?  {story['answer']}; the network says {story['said']}", fontsize=10)
    bar = figure.colorbar(picture, ax=axes, fraction=0.05)
    bar.set_label("attention", fontsize=9)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
