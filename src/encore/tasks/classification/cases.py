"""Classifiers that compare with learnt cases: what a case looks like, which samples are near it, which ones to keep."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional

from encore.base.errors import ConfigurationError, DataError
from encore.base.files import write_text
from encore.data.contracts import Samples
from encore.nn.model import EncoreModel
from encore.tasks.classification.pictures import GREEN, RED, Ranked, fitted, ranked_picture
from encore.tasks.own_ways import Reason
from encore.tasks.sheets import photograph, save_picture
from encore.tasks.views import as_input

CASES = "prototypes"
"""The files of a run that show its cases: `prototypes.png`, `prototypes.json`."""

NUM_NEIGHBOURS = 10
"""How many of the samples nearest to a case tell whether it stands for its class."""

CASES_BATCH = 256
"""Pictures that are encoded at once where the cases' neighbours are looked for."""

PULL = 1e-4
"""Weight of the squared change of the head, which is counted at a mean distance of 1, where it is fitted anew."""

DARK = (30, 30, 30)


@runtime_checkable
class LearnsCases(Protocol):
    """A classifier with cases in the space of its codes (`encore.papers.prototypes.prototype_network`)."""

    owners: Tensor | None
    head: nn.Linear

    def encode(self, inputs: Tensor) -> Tensor:
        """(B, …) → codes (B, q)."""
        ...

    def distances(self, codes: Tensor) -> Tensor:
        """(B, q) → (B, m), to every case."""
        ...

    def decoded_prototypes(self) -> Tensor:
        """The cases in the space of inputs, (m, C, H, W) in 0…1."""
        ...

    def class_of_prototypes(self) -> Tensor:
        """(m,) int64: the class that each case speaks for."""
        ...

    def replace_by_nearest(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make each case the nearest of these codes; which, (m,)."""
        ...

    def prune(self, kept: Sequence[int]) -> None:
        """Keep these cases alone."""
        ...


@dataclass(frozen=True)
class Neighbours:
    """The samples that lie nearest to each of m cases.

    Attributes:
        indices, labels: (m,) int64, the nearest sample and its class; of a case that belongs to a class, the nearest of
            that class.
        distances: (m,) float32.
        codes: (m, q), of these samples.
        purity: (m,) float32, the share of the `NUM_NEIGHBOURS` nearest samples of all classes that have the class that
            the case speaks for.
    """

    indices: Tensor
    labels: Tensor
    distances: Tensor
    codes: Tensor
    purity: Tensor


@torch.no_grad()
def neighbours(model: Any, batches: Iterable[Any]) -> Neighbours:
    """Find them in one pass.

    Args:
        model: one that `LearnsCases`, in evaluation mode.
        batches: of samples as the model sees them, in order.
    """
    supported = model.class_of_prototypes()
    places = torch.arange(len(supported), device=supported.device)
    best: tuple[Tensor, ...] | None = None
    around: tuple[Tensor, Tensor] | None = None
    start = 0
    for batch in batches:
        codes = model.encode(as_input(model, batch["image"]))
        labels = batch["label"].to(codes.device)
        distances = model.distances(codes).T
        allowed = distances
        if model.owners is not None:
            allowed = distances.masked_fill(model.owners.unsqueeze(1) != labels, torch.inf)
        nearest = allowed.min(1)
        found = nearest.values, nearest.indices + start, labels[nearest.indices], codes[nearest.indices]
        if best is None:
            best = found
        else:
            nearer = found[0] < best[0]
            chosen = zip(found, best, strict=True)
            best = tuple(torch.where(nearer.view(-1, *(1,) * (new.ndim - 1)), new, old) for new, old in chosen)
        all_distances, all_labels = distances, labels.expand_as(distances)
        if around is not None:
            all_distances = torch.cat([around[0], all_distances], 1)
            all_labels = torch.cat([around[1], all_labels], 1)
        kept = all_distances.topk(min(NUM_NEIGHBOURS, all_distances.shape[1]), largest=False)
        around = kept.values, all_labels[places.unsqueeze(1), kept.indices]
        start += len(labels)
    assert best is not None
    assert around is not None
    purity = (around[1] == supported.unsqueeze(1)).float().mean(1)
    return Neighbours(indices=best[1], labels=best[2], distances=best[0], codes=best[3], purity=purity)


def refit_head(model: Any, batches: Iterable[Any], iterations: int = 100) -> None:
    """Fit the head alone to cases that have changed, as ProtoPNet does after its push (arXiv 1806.10574).

    The mean cross-entropy is convex in a head without bias: L-BFGS over all samples, from the head as it is. A small
    pull towards that keeps its meaning, which case speaks for which class; without it weights grow without bound.

    Args:
        model: one that `LearnsCases`; its `head` is a linear layer on `distances`.
        batches: of training samples as the model sees them.
        iterations: at most.
    """
    with torch.no_grad():
        pairs = [
            (model.distances(model.encode(as_input(model, batch["image"]))), batch["label"].to(model.device))
            for batch in batches
        ]
        distances = torch.cat([one for one, _ in pairs]).double()
        labels = torch.cat([one for _, one in pairs])
    scale = distances.mean().clamp(min=1e-12)
    learnt = model.head.weight.detach().double() * scale
    weight = learnt.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(distances / scale @ weight.T, labels)
        value = value + PULL * (weight - learnt).square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    with torch.no_grad():
        model.head.weight.copy_(weight / scale)


def pruned(purity: Tensor, least: float, owners: Tensor | None = None) -> list[int]:
    """The cases of at least this purity; the purest one, if there is none.

    Args:
        purity: (m,), 0…1.
        least: the smallest that is kept.
        owners: (m,), the class that each case belongs to, of which the purest always stays.
    """
    kept = {case for case, value in enumerate(purity.tolist()) if value >= least}
    groups = (
        [torch.arange(len(purity))] if owners is None else [(owners == one).nonzero()[:, 0] for one in owners.unique()]
    )
    for group in groups:
        if kept.isdisjoint(group.tolist()):
            kept.add(int(group[purity[group].argmax()]))
    return sorted(kept)


def check_every_class(model: EncoreModel, labels: Iterable[int] | None, classes: Sequence[str]) -> None:
    """See that every class that cases belong to has a training sample; of data that hide their `labels`, not.

    Raises:
        DataError: one has none.
    """
    owners = getattr(model, "owners", None)
    missing = [] if owners is None or labels is None else sorted({*owners.tolist()} - {*labels})
    if missing:
        names = ", ".join(classes[one] for one in missing[:5]) + (" …" if len(missing) > 5 else "")
        raise DataError(
            f"per_class: every prototype belongs to a class, and {len(missing)} have no training sample ({names})",
            "give samples of every class, or a larger train_samples",
        )


def check_learns_cases(model: EncoreModel, *, replaced: bool, least_purity: float) -> None:
    """See that cases are replaced or pruned only where there are some.

    Raises:
        ConfigurationError: the model learns none.
    """
    if (replaced or least_purity) and not isinstance(model, LearnsCases):
        key = "replace_cases" if replaced else "least_purity"
        raise ConfigurationError(
            f"{key}: '{model.registered_name}' learns no cases", "leave it out, or take a model of prototypes"
        )


def write_cases(model: Any, found: Neighbours, samples: Samples, folder: Path, *, replaced: bool) -> Path:
    """Leave `prototypes.json` and `prototypes.png`: each case, its class, and the training sample nearest to it.

    Args:
        model: one that `LearnsCases`.
        found: its neighbours.
        samples: those that `found` counts.
        folder: of the run.
        replaced: whether the cases are these samples now.

    Returns:
        The picture.
    """
    supported = model.class_of_prototypes().tolist()
    rows, cards = [], []
    shown = model.decoded_prototypes().cpu()
    weights = model.head.weight.detach().cpu().T
    for case in sorted(range(len(supported)), key=lambda one: (supported[one], one)):
        sample = samples[int(found.indices[case])]
        row = {
            "case": case,
            "supports": model.classes[supported[case]],
            "weights": dict(zip(model.classes, weights[case].tolist(), strict=True)),
            "purity": float(found.purity[case]),
            "replaced_by_nearest": replaced,
            "nearest": {
                "index": int(found.indices[case]),
                "name": sample["name"],
                "class": model.classes[int(found.labels[case])],
                "distance": float(found.distances[case]),
            },
        }
        rows.append(row)
        cards.append((as_picture(shown[case]), photograph(sample["image"]), row))
    write_text(folder / f"{CASES}.json", json.dumps({"prototypes": rows}, ensure_ascii=False, indent=2) + "\n")
    save_picture(_inventory(cards), folder / f"{CASES}.png")
    return folder / f"{CASES}.png"


def as_picture(values: Tensor) -> Image.Image:
    """(1 or 3, H, W) in 0…1 as a Pillow picture."""
    levels = (values.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return photograph(levels.expand(3, -1, -1))


def _scaled(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    smoothly = Image.Resampling.BICUBIC if max(picture.size) > 64 else Image.Resampling.NEAREST
    return picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)), smoothly)


def _inventory(cards: Sequence[tuple[Image.Image, Image.Image, dict[str, Any]]], side: int = 84) -> Image.Image:
    """Cases five a row, each beside the training sample nearest to it."""
    font, small = ImageFont.load_default(13), ImageFont.load_default(11)
    columns = min(5, len(cards))
    width, height = 2 * side + 18, side + 44
    rows = -(-len(cards) // columns)
    sheet = Image.new("RGB", (columns * width + 8, rows * height + 30), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 6), "left: the prototype, decoded · right: the training example nearest to it", fill=DARK, font=font)
    for place, (decoded, nearest, row) in enumerate(cards):
        left, top = 8 + width * (place % columns), 28 + height * (place // columns)
        sheet.paste(_scaled(decoded, side), (left, top))
        sheet.paste(_scaled(nearest, side), (left + side + 4, top))
        agrees = row["supports"] == row["nearest"]["class"]
        heading = fitted(f"{row['case']}: for {row['supports']}", font, side + 2)
        draw.text((left, top + side + 2), heading, fill=DARK, font=font)
        beside = fitted(row["nearest"]["class"], font, side)
        draw.text((left + side + 4, top + side + 2), beside, fill=GREEN if agrees else RED, font=font)
        draw.text((left, top + side + 20), f"distance {row['nearest']['distance']:.3g}", fill=DARK, font=small)
    return sheet


def reasons_picture(image: Tensor, ranked: Ranked, reasons: Sequence[Reason], side: int = 96) -> Image.Image:
    """A picture beside its likeliest classes, and below it the cases nearest to it.

    Args:
        image: (3, H, W) uint8.
        ranked: classes and probabilities.
        reasons: the nearest first; those that fit are shown.
        side: of a case, in pixels.
    """
    above = ranked_picture(image, ranked)
    font, small = ImageFont.load_default(13), ImageFont.load_default(11)
    shown = reasons[: (above.width - 8) // (side + 6)]
    sheet = Image.new("RGB", (above.width, above.height + side + 78), "white")
    sheet.paste(above, (0, 0))
    draw = ImageDraw.Draw(sheet)
    draw.text((8, above.height), f"nearest prototypes, and what they add to '{ranked[0][0]}'", fill=DARK, font=font)
    for place, reason in enumerate(shown):
        left, top = 8 + place * (side + 6), above.height + 20
        sheet.paste(_scaled(as_picture(reason.shown), side), (left, top))
        colour = GREEN if reason.supports == ranked[0][0] else DARK
        heading = fitted(f"{reason.case}: for {reason.supports}", font, side)
        draw.text((left, top + side + 2), heading, fill=colour, font=font)
        draw.text((left, top + side + 20), f"distance {reason.distance:.3g}", fill=DARK, font=small)
        draw.text((left, top + side + 34), f"adds {reason.contribution:+.3g}", fill=DARK, font=small)
    return sheet
