"""What rows of a table look like: cells coloured by how unusual they are, answers beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from encore.base.files import replacing
from encore.data.tabular_columns import Columns

SHOWN_COLUMNS = 16
"""A picture has room for these many columns."""

RANGE = 2.5
"""Standard deviations at which colours end."""

_NAME_LENGTH = 26


@dataclass(frozen=True)
class ShownRow:
    """One line of a picture.

    Attributes:
        label: what stands before it.
        values: by column, in the table's units.
        deviations: (D,), in standard deviations from the mean.
        marked: columns whose cells get a frame.
        colour: of the label.
    """

    label: str
    values: dict[str, float | str]
    deviations: Tensor
    marked: frozenset[str] = field(default_factory=frozenset)
    colour: str = "black"


def draw_rows(rows: Sequence[ShownRow], columns: Columns, names: Sequence[str], title: str, path: Path) -> None:
    """Draw rows as lines of cells, one below the other.

    Args:
        rows: from top to bottom.
        columns: of the table.
        names: the columns that are shown.
        title: above the picture.
        path: the PNG.
    """
    places = {column.name: (column, place) for column, place in columns.slices()}
    colours = np.full((len(rows), len(names)), np.nan)
    for line, row in enumerate(rows):
        for cell, name in enumerate(names):
            column, place = places[name]
            if column.kind == "numeric":
                colours[line, cell] = float(row.deviations[place.start])
    width = max(0.95 * len(names), 4) + 4.0
    figure = Figure(figsize=(width, 0.42 * len(rows) + 2.3), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#f2f2f2")
    shown = axes.imshow(colours, cmap="RdBu_r", vmin=-RANGE, vmax=RANGE, aspect="auto")
    figure.colorbar(shown, ax=axes, label="deviations\nfrom the mean", shrink=0.9, pad=0.01)
    for line, row in enumerate(rows):
        for cell, name in enumerate(names):
            value, strong = row.values[name], abs(np.nan_to_num(colours[line, cell])) > 0.6 * RANGE
            text = value if isinstance(value, str) else f"{value:.4g}"
            axes.text(
                cell,
                line,
                _short(text, 12),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if strong else "black",
                fontweight="bold" if name in row.marked else "normal",
                parse_math=False,
            )
            if name in row.marked:
                frame = Rectangle((cell - 0.47, line - 0.44), 0.94, 0.88, fill=False, edgecolor="black", linewidth=1.2)
                axes.add_patch(frame)
    axes.set_xticks(range(len(names)), [_plain(_short(name, _NAME_LENGTH)) for name in names], rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), [_plain(row.label) for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(row.colour)
    axes.tick_params(length=0, labelsize=9)
    axes.set_title(_plain(title), fontsize=10, loc="left")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _plain(text: str) -> str:
    """Text in which a dollar begins no formula."""
    return text.replace("$", r"\$")
