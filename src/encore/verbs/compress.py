"""`compress` and `decompress`: real files, by a room's codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encore.base import registry
from encore.base.errors import DataError, InputError
from encore.base.progress import ProgressReporter, SilentProgress
from encore.data.images import unreadable
from encore.nn.creation import load
from encore.results.codecs import CodecReport


def compress(
    source: str | Path,
    out: str | Path,
    *,
    codec: str,
    model: str | Path | None = None,
    progress: ProgressReporter | None = None,
) -> CodecReport:
    """Write what lies at `source` as one file.

    Args:
        source: what the codec takes; for `pc_compression` a folder of lossless pictures, or an `.npz`.
        out: the file. It is written under another name first, so that it is whole or not there.
        codec: the paper whose codec is to be used.
        model: a RUN, for codecs that need one; `decompress` needs it again.
        progress: told of all work.

    Raises:
        InputError: whatever the user can mend.
    """
    room = _codec(codec)
    out = Path(out)
    if out.exists():
        raise InputError(f"-o {out} is there already", "name another file")
    report: CodecReport = room.compress(Path(source), out, _model(room, model), progress or SilentProgress())
    return report


def decompress(
    source: str | Path,
    out: str | Path,
    *,
    model: str | Path | None = None,
    progress: ProgressReporter | None = None,
) -> CodecReport:
    """Write back what `compress` was given; which codec made the file is read off its first bytes.

    Args:
        source: the compressed file.
        out: the folder or file to be written, which is not there yet.
        model: the RUN that compressed it, for codecs that need one.
        progress: told of all work.

    Raises:
        InputError: whatever the user can mend.
    """
    source = Path(source)
    try:
        with source.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        raise DataError(f"{source} does not exist", "check the path") from None
    except OSError as error:
        raise unreadable(source, error) from None
    for slug in codecs():
        room = _codec(slug)
        if room.recognises(start):
            opened = _model(room, model)
            report: CodecReport = room.decompress(source, Path(out).absolute(), opened, progress or SilentProgress())
            return report
    raise DataError(f"{source} was not made by encore compress, or its first bytes are damaged", "copy it again")


def codecs() -> list[str]:
    """Papers that compress."""
    return [slug for slug, card in registry.cards().items() if "compress" in card.verbs]


def _codec(slug: str) -> Any:
    registry.require_verb(registry.card(slug), "compress")
    return registry.room(slug, "codec")


def _model(room: Any, run: str | Path | None) -> Any:
    if run is None:
        raise InputError(f"the codec {room.NAME} needs a model on both sides", "name the RUN: --model RUN")
    return room.check_model(load(run), str(run))
