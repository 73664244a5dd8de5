"""bAbI: twenty tasks of questions about short stories (Weston et al., "Towards AI-complete question answering", 2015).

Read are the public folder (`tasks_1-20_v1-2/en/qa1_…_train.txt` and so on), one of its folders, and a zip archive of
either.
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from encore.base.errors import DataError
from encore.base.files import replacing
from encore.base.progress import ProgressReporter
from encore.data.babi import Question, holds_story_tasks, open_story_tasks
from encore.data.contracts import DataSplits
from encore.data.downloads import download_file
from encore.data.named import NamedSet
from encore.data.resizing import Size

ENGLISH = "tasks_1-20_v1-2/en"
"""The folder of the public archive that is read: English, 1,000 questions a task."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions with their stories; a map-style dataset.

    Attributes:
        questions: in order.
        classes: every answer that occurs in the set.
    """

    questions: tuple[Question, ...]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`story` (tuples of words), `question`, `answer`, `supporting` (places in the story), `task`, `name`."""
        number = range(len(self))[index]
        one = self.questions[number]
        return {**vars(one), "name": f"task{one.task:02d}_{number:05d}"}


class Babi(NamedSet):
    """Twenty tasks of 1,000 training and 1,000 test questions."""

    name = "babi"
    title = "bAbI: questions about short stories, 20 tasks, 1000/1000 questions each"
    task = "question-answering"
    holds = "questions"
    licence = "CC BY 3.0"
    url = "https://s3.amazonaws.com/text-datasets/babi_tasks_1-20_v1-2.tar.gz"

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """Train and test of all tasks as given; the last tenth of each task's train becomes val."""
        assert path is not None
        tasks = open_story_tasks(path)
        parts: dict[str, tuple[Question, ...]] = {"train": (), "val": (), "test": ()}
        for task in tasks:
            fitted, held_out = hold_out_last_tenth(task.train)
            parts["train"] += fitted
            parts["val"] += held_out
            parts["test"] += task.test
        answers = tuple(sorted({one.answer for part in parts.values() for one in part}))
        return DataSplits(
            name=self.name,
            train=Questions(parts["train"], answers),
            val=Questions(parts["val"], answers),
            test=Questions(parts["test"], answers),
            classes=answers,
            origin="train and test given; val is the last tenth of each task's train",
            source=f"bAbI ({len(tasks)} tasks), {self.licence}",
        )

    def recognises(self, path: Path) -> bool:
        """Files of the tasks, in a folder or a zip archive."""
        return holds_story_tasks(path)

    def download(self, destination: Path, url: str, progress: ProgressReporter) -> None:
        """Fetch the public archive, and unpack the English tasks of 1,000 questions."""
        archive = destination / "babi.tar.gz"
        download_file(url, archive, progress)
        try:
            with tarfile.open(archive) as file:
                found = [one for one in file if one.isfile() and str(PurePosixPath(one.name).parent).endswith(ENGLISH)]
                for member in found:
                    content = file.extractfile(member)
                    assert content is not None
                    with replacing(destination / PurePosixPath(member.name).name) as temporary:
                        temporary.write_bytes(content.read())
        except (tarfile.TarError, zlib.error, EOFError) as error:
            raise DataError(f"{archive} is damaged ({error})", "remove it and download again") from error
        if not found:
            raise DataError(f"{archive} holds no {ENGLISH}", "check the address")
        archive.unlink()


def hold_out_last_tenth(questions: tuple[Question, ...]) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Cut off the last tenth, so that no story, but perhaps one, has questions in both parts.

    Raises:
        DataError: fewer than two questions.
    """
    if len(questions) < 2:
        raise DataError("a task has one question, none can be held out", "give tasks of at least two questions")
    held_out = max(len(questions) // 10, 1)
    return questions[:-held_out], questions[-held_out:]


SET = Babi()
