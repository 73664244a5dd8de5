"""Cards: what a paper says. One `card.toml` per room, read without importing the room.

A card holds the only figures in Encore that are typed in by hand, each with the source it was read from.
"""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from encore.base.errors import EncoreError

Source = Literal["paper", "code", "secondary", "recalled"]
"""Where a figure was read: in the paper, in the official code, in another publication, or from memory."""

Direction = Literal["higher", "lower", "equal"]
"""`higher`/`lower`: the measured value has to lie above/below the baseline's; `equal`: it has to be it."""

Verb = Literal["run", "fit", "predict", "evaluate", "export", "compress", "ask"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperFigure(_Strict):
    """The paper's own figure for a claim.

    Attributes:
        value: what the paper reports for its method, in the claim's unit.
        baselines: the figures it sets beside it, by the baseline's name.
        source: where the figure was read.
        where: table, figure, section or file.
        setting: data, size and schedule it holds for.
    """

    value: float
    baselines: dict[str, float] = Field(default_factory=dict)
    source: Source
    where: str
    setting: str = ""


class Claim(_Strict):
    """One sentence of the paper that a number can hold or break.

    Attributes:
        id: names the claim within its paper; a lower-case identifier.
        text: the sentence, in our words.
        kind: `comparative` (method against baselines, paired over seeds), `absolute` (a figure reached in
            the paper's own setting) or `exact` (a count or an equality that holds or does not).
        metric: what is measured, an identifier (`mean_iou`).
        unit: the unit of the figures (`%`, `bytes`, `parameters`).
        direction: on which side of the baseline the measured value has to lie.
        margin: of a claim to be about as good: how far the measured value may lie on the other side of the baseline
            (in an absolute claim, of the paper's figure), in `unit`.
        paper: the paper's figure, where it gives one.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    text: str = Field(min_length=10)
    kind: Literal["comparative", "absolute", "exact"] = "comparative"
    metric: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    unit: str
    direction: Direction
    margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    paper: PaperFigure | None = None

    @model_validator(mode="after")
    def _margin_fits(self) -> Claim:
        if self.margin and (self.kind == "exact" or self.direction == "equal"):
            raise ValueError(f"claim {self.id} has a margin, which only figures above or below another can have")
        return self


class Column(_Strict):
    """One column of a paper's table.

    Attributes:
        metric: what is measured, an identifier.
        label: what the table calls it.
        unit: of its figures; empty for counts and ratios.
        exact: chance does not touch it (a count, a size); others are compared over seeds.
        judged: whether its order against the reference row is given a verdict; the others are for reading.
    """

    metric: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    label: str
    unit: str = ""
    exact: bool = False
    judged: bool = False


class PaperTable(_Strict):
    """A table of the paper that is measured again.

    Attributes:
        id: names the table within its paper.
        title: what it shows.
        reference: the row that the others are compared with, the paper's own method.
        columns: in order; the paper need not have all of them.
        rows: the paper's figures by row and metric; a row without figures is one of ours beside the paper's.
        source, where, setting: as for `PaperFigure`.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    reference: str
    columns: tuple[Column, ...] = Field(min_length=1)
    rows: dict[str, dict[str, float]] = Field(min_length=1)
    source: Source
    where: str
    setting: str = ""

    @model_validator(mode="after")
    def _rows_fit(self) -> PaperTable:
        metrics = {column.metric for column in self.columns}
        for name, figures in self.rows.items():
            if not figures.keys() <= metrics:
                raise ValueError(f"row {name} of table {self.id} has figures of no column: {figures.keys() - metrics}")
        if self.reference not in self.rows:
            raise ValueError(f"table {self.id} has no row {self.reference}")
        return self


class Link(_Strict):
    """A page or repository that belongs to the paper."""

    label: str
    url: str = Field(pattern=r"^https?://")


class Weights(_Strict):
    """Whether the authors publish weights, and on what terms.

    Attributes:
        public: whether weights can be downloaded from the authors.
        licence: the licence they state; `unstated` where they state none.
        url: where they lie.
        note: what a user has to know.
    """

    public: bool
    licence: str = "unstated"
    url: str | None = None
    note: str = ""


class Card(_Strict):
    """What a paper says of itself, and what its room can do.

    Attributes:
        slug: names the paper's room.
        title: the title as published.
        arxiv: the arXiv identifier.
        date: the day of the first version.
        num_authors: how many wrote it; absent where not known.
        authors: their names, where known for certain.
        tasks: the kinds of work, the first being the one `fit` takes.
        summary: the paper in two to four sentences of ours.
        links: code and project pages.
        code_licence: licence of the official code; `unstated` where it has none.
        weights: the official weights.
        claims: what `run` performs.
        tables: tables of the paper that `run` fills again, row by row.
        verbs: what the room can do; empty while it is planned.
        models: names that the room registers with `create_model`, the first being the paper's own.
        reconstruction: true where the paper's body could not be read and the room rebuilds it.
    """

    slug: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    arxiv: str = Field(pattern=r"^\d{4}\.\d{4,5}$")
    date: datetime.date
    num_authors: int | None = Field(default=None, ge=1)
    authors: tuple[str, ...] = ()
    tasks: tuple[str, ...] = Field(min_length=1)
    summary: str = Field(min_length=80)
    links: tuple[Link, ...] = ()
    code_licence: str | None = None
    weights: Weights
    claims: tuple[Claim, ...] = Field(min_length=1)
    tables: tuple[PaperTable, ...] = ()
    verbs: tuple[Verb, ...] = ()
    models: tuple[str, ...] = ()
    reconstruction: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) != len(ids):
            raise ValueError(f"claim ids repeat: {ids}")
        if self.authors and self.num_authors != len(self.authors):
            raise ValueError(f"num_authors is {self.num_authors} but {len(self.authors)} authors are named")
        return self

    @property
    def state(self) -> Literal["performed", "planned"]:
        """`performed` once the room can run its claims."""
        return "performed" if "run" in self.verbs else "planned"

    @property
    def year(self) -> int:
        """Year of the first version."""
        return self.date.year

    def claim(self, claim_id: str) -> Claim:
        """Return the claim named `claim_id`; KeyError if there is none."""
        return next(claim for claim in self.claims if claim.id == claim_id)


def read_card(path: Path) -> Card:
    """Read and validate one `card.toml`.

    Raises:
        EncoreError: the file is not a valid card; the message names the file and the field.
    """
    try:
        card = Card.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise EncoreError(f"{path} is not a valid card: {error}") from error
    if card.slug != path.parent.name:
        raise EncoreError(f"{path} calls itself '{card.slug}' but its room is '{path.parent.name}'")
    return card
