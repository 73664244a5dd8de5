"""Stories, questions and answers in the format of the bAbI tasks (Weston et al., arXiv 1502.05698).

A file is a list of numbered lines; number 1 begins a new story. A line is a statement, or a question with its answer
and the numbers of the statements that support it, parted by tabs:

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary?        bathroom        1
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from encore.base.errors import DataError
from encore.base.seeds import derive_seed
from encore.data.archives import FileTree

Sentence = tuple[str, ...]
"""The words of a statement or a question, in lower case, without full stops and question marks."""

_FILE = re.compile(r"qa(\d+)_(.+)_(train|test)\.txt")
_REMEDY = "due are qa1_…_train.txt and qa1_…_test.txt of the English bAbI tasks, in a folder or a .zip"


@dataclass(frozen=True)
class Question:
    """A question about a story.

    Attributes:
        story: the statements before it, oldest first; questions between them are left out.
        question: its words.
        answer: one word; several answers at once are one, joined by commas (`milk,football`).
        supporting: places in `story` of the statements that the answer follows from.
        task: number of the bAbI task, from 1.
    """

    story: tuple[Sentence, ...]
    question: Sentence
    answer: str
    supporting: tuple[int, ...]
    task: int


@dataclass(frozen=True)
class StoryTask:
    """One bAbI task.

    Attributes:
        number: from 1.
        title: `single supporting fact`.
        train, test: its questions, in the order of the files.
    """

    number: int
    title: str
    train: tuple[Question, ...]
    test: tuple[Question, ...]


def words_of(text: str) -> Sentence:
    """The words of a sentence: `Where is Mary?` → `("where", "is", "mary")`."""
    return tuple(re.findall(r"[^\s.,?!]+", text.lower()))


def parse_questions(text: str, task: int, where: str = "the text") -> tuple[Question, ...]:
    """Read a file's questions.

    Args:
        text: its content.
        task: number of the task.
        where: what errors call the file.

    Raises:
        DataError: a line without number, a question without answer, a support that is no statement of the story, or
            no question at all.
    """
    questions: list[Question] = []
    story: list[Sentence] = []
    places: dict[int, int] = {}
    for at, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        first, _, rest = line.strip().partition(" ")
        number = _number(first)
        if number is None:
            raise DataError(f"{where}, line {at} begins without a number: {line[:40]!r}", _REMEDY)
        if number == 1:
            story, places = [], {}
        fields = [field.strip() for field in rest.split("\t")]
        words = words_of(fields[0])
        if not words:
            raise DataError(f"{where}, line {at} holds no words", _REMEDY)
        if len(fields) == 1:
            places[number] = len(story)
            story.append(words)
            continue
        if not fields[1]:
            raise DataError(f"{where}, line {at} is a question without an answer", _REMEDY)
        lines = [_number(one) for one in fields[2].split()] if len(fields) > 2 else []
        supporting = tuple(places[one] for one in lines if one in places)
        if len(supporting) < len(lines):
            raise DataError(f"{where}, line {at}: its support {fields[2][:40]!r} is no statement of its story", _REMEDY)
        questions.append(Question(tuple(story), words, fields[1].lower(), supporting, task))
    if not questions:
        raise DataError(f"{where} holds no questions", _REMEDY)
    return tuple(questions)


def _number(text: str) -> int | None:
    """The number of a line; None for what is none, or longer than any story."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def holds_story_tasks(path: Path) -> bool:
    """Whether files of bAbI tasks lie at `path` (a folder or a zip archive)."""
    if not path.is_dir() and path.suffix.lower() != ".zip":
        return False
    try:
        return bool(_files_at(path)[1])
    except DataError:
        return False


def open_story_tasks(path: Path, numbers: Sequence[int] | None = None) -> list[StoryTask]:
    """Read bAbI tasks from a folder, or from a zip archive in it or at `path`.

    The public archive has a folder for each language and size (`en`, `en-10k`, `hn` …): `en` is taken, unless `path` is
    one of them.

    Args:
        path: where they lie.
        numbers: of the tasks that are wanted; all that are there by default.

    Returns:
        The tasks in the order of their numbers.

    Raises:
        DataError: no such files, a task without one of its parts, or a file that cannot be read.
    """
    tree, files = _files_at(path)
    if not files:
        raise DataError(f"{path} holds no bAbI tasks", _REMEDY)
    there = sorted({number for number, _ in files})
    tasks = []
    for number in numbers if numbers is not None else there:
        parts: dict[str, tuple[Question, ...]] = {}
        title = ""
        for part in ("train", "test"):
            if (number, part) not in files:
                raise DataError(f"{path} holds no {part}ing part of task {number}", f"name tasks among {there}")
            name, title = files[number, part]
            parts[part] = parse_questions(_text(tree, name), number, f"{name} in {path}")
        tasks.append(StoryTask(number, title, parts["train"], parts["test"]))
    return tasks


def _files_at(path: Path) -> tuple[FileTree, dict[tuple[int, str], tuple[str, str]]]:
    """The tree and, by task and part, a file's name and its task's title."""
    archives = sorted(path.glob("*.zip")) if path.is_dir() else []
    tree = FileTree(path)
    if archives and not any(_FILE.fullmatch(PurePosixPath(name).name) for name in tree.names):
        tree = FileTree(archives[0])
    folders: dict[str, dict[tuple[int, str], tuple[str, str]]] = {}
    for name in tree.names:
        found = _FILE.fullmatch(PurePosixPath(name).name)
        if found:
            below = folders.setdefault(str(PurePosixPath(name).parent), {})
            below[int(found[1]), found[3]] = (name, found[2].replace("-", " "))
    if len(folders) <= 1:
        return tree, next(iter(folders.values()), {})
    english = [files for folder, files in folders.items() if PurePosixPath(folder).name == "en"]
    if len(english) != 1:
        raise DataError(
            f"{path} holds bAbI tasks in several folders ({', '.join(sorted(folders))})", "name one of the folders"
        )
    return tree, english[0]


def _text(tree: FileTree, name: str) -> str:
    source = tree.read(Path(name))
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        return content.decode("utf-8")
    except OSError as error:
        raise DataError(f"{name} in {tree.path} cannot be read ({error.strerror})", "check the file") from None
    except UnicodeDecodeError:
        raise DataError(f"{name} in {tree.path} is no text", _REMEDY) from None


# stories of our own

PEOPLE = ("anna", "bruno", "clara", "david")
PLACES = ("attic", "cellar", "garage", "library", "porch", "studio")
THINGS = ("book", "cup", "lamp")
_GOING = ("walked to the", "went to the", "ran to the", "returned to the")
_TAKING = ("took the", "picked up the", "grabbed the")
_LEAVING = ("left the", "put down the")


def make_story_tasks(numbers: Sequence[int] = (1, 2), *, questions: int = 1000, seed: int = 0) -> list[StoryTask]:
    """Stories in the manner of bAbI's tasks 1 and 2, told by a small simulated world, with exact answers.

    Task 1 asks where a person is (one supporting statement), task 2 where a thing is (two: who took it, and where that
    person then went). The words are not bAbI's.

    Args:
        numbers: 1, 2 or both.
        questions: in each part.
        seed: of the world.

    Raises:
        DataError: another task than 1 and 2.
    """
    tellers = {1: (_persons_story, "single supporting fact"), 2: (_things_story, "two supporting facts")}
    tasks = []
    for number in numbers:
        if number not in tellers:
            raise DataError(f"stories of task {number} cannot be made", "make tasks 1 and 2, or get bAbI")
        tell, title = tellers[number]
        parts = []
        for part in ("train", "test"):
            chance = random.Random(derive_seed(seed, "stories", number, part))
            told: list[Question] = []
            while len(told) < questions:
                told += tell(chance)
            parts.append(tuple(told[:questions]))
        tasks.append(StoryTask(number, title, parts[0], parts[1]))
    return tasks


def _persons_story(chance: random.Random) -> Iterator[Question]:
    """Five questions, each after two more moves."""
    story: list[Sentence] = []
    seen: dict[str, tuple[str, int]] = {}
    for _ in range(5):
        for _ in range(2):
            person = chance.choice(PEOPLE)
            _move(chance, story, seen, person)
        person = chance.choice(list(seen))
        place, line = seen[person]
        yield Question(tuple(story), ("where", "is", person), place, (line,), 1)


def _things_story(chance: random.Random) -> Iterator[Question]:
    """Up to four questions about things whose place is known."""
    story: list[Sentence] = []
    seen: dict[str, tuple[str, int]] = {}
    held: dict[str, tuple[str, int]] = {}  # thing → who holds it, and the line that said so
    left: dict[str, tuple[str, tuple[int, int]]] = {}  # thing → where it was left, and the lines that say so
    for _ in range(4):
        for _ in range(3):
            person = chance.choice(PEOPLE)
            own = [thing for thing, (holder, _) in held.items() if holder == person]
            free = [thing for thing in THINGS if thing not in held and _reachable(thing, person, seen, left)]
            deed = chance.random()
            if person not in seen or deed < 0.5 or not (own or free):
                _move(chance, story, seen, person)
            elif own and (deed < 0.65 or not free):
                thing = chance.choice(own)
                story.append((person, *f"{chance.choice(_LEAVING)} {thing}".split()))
                left[thing] = (seen[person][0], (len(story) - 1, seen[person][1]))
                del held[thing]
            else:
                thing = chance.choice(free)
                story.append((person, *f"{chance.choice(_TAKING)} {thing}".split()))
                held[thing] = (person, len(story) - 1)
                left.pop(thing, None)
        known = {thing: (seen[holder][0], (line, seen[holder][1])) for thing, (holder, line) in held.items()} | left
        if known:
            thing = chance.choice(sorted(known))
            place, lines = known[thing]
            yield Question(tuple(story), ("where", "is", "the", thing), place, lines, 2)


def _reachable(
    thing: str, person: str, seen: dict[str, tuple[str, int]], left: dict[str, tuple[str, tuple[int, int]]]
) -> bool:
    """Whether `person` is where `thing` was left; one that nobody has touched yet may be anywhere."""
    return person in seen and (thing not in left or left[thing][0] == seen[person][0])


def _move(chance: random.Random, story: list[Sentence], seen: dict[str, tuple[str, int]], person: str) -> None:
    here = seen[person][0] if person in seen else None
    place = chance.choice([one for one in PLACES if one != here])
    story.append((person, *f"{chance.choice(_GOING)} {place}".split()))
    seen[person] = (place, len(story) - 1)
