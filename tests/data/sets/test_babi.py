"""bAbI's files and stories of our own: what is asked, what is answered, and from which statements it follows."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from encore.base.errors import DataError
from encore.base.progress import SilentProgress
from encore.data.babi import Question, make_story_tasks, open_story_tasks, parse_questions, words_of
from encore.data.named import named_set
from encore.data.sets import babi

from ..conftest import refusal

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "babi"

TEXT = """1 Mary moved to the bathroom.
2 Sandra journeyed to the bedroom.
3 Where is Mary?\tbathroom\t1
4 Mary got the football there.
5 Where is the football? \tbathroom\t4 1
1 John went to the Kitchen.
2 What is John carrying?\tmilk,football\t1
"""


def write_task(folder: Path, number: int = 1, title: str = "single-supporting-fact", text: str = TEXT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        (folder / f"qa{number}_{title}_{part}.txt").write_text(text, encoding="utf-8")
    return folder


# reading


def test_a_question_knows_its_story_its_answer_and_what_supports_it():
    first, second, third = parse_questions(TEXT, task=3)
    assert first.story == (words_of("Mary moved to the bathroom"), words_of("Sandra journeyed to the bedroom"))
    assert first.question == ("where", "is", "mary")
    assert (first.answer, first.supporting, first.task) == ("bathroom", (0,), 3)
    # Line 4 is the third statement: questions are no part of the story.
    assert len(second.story) == 3
    assert second.supporting == (2, 0)
    assert third.story == (("john", "went", "to", "the", "kitchen"),)
    assert third.answer == "milk,football"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no questions"),
        ("1 Mary moved.\n", "holds no questions"),
        ("Mary moved.\n", "line 1 begins without a number"),
        ("1 Mary moved.\n2 Where?\t\t1\n", "line 2 is a question without an answer"),
        ("1 Mary moved.\n2 Where?\there\t7\n", "'7' is no statement of its story"),
        ("1 Mary moved.\n2 Where?\there\tone\n", "'one' is no statement of its story"),
        ("9" * 5000 + " Mary moved.\n", "line 1 begins without a number"),
        ("1 Mary moved.\n2 Where?\there\t" + "9" * 5000 + "\n", "is no statement of its story"),
        ("1 ...\n2 Where?\there\t1\n", "line 1 holds no words"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, problem: str):
    assert problem in refusal(lambda: parse_questions(text, 1, "qa1"), DataError)


def test_a_folder_a_zip_archive_and_a_folder_with_one_are_read_alike(tmp_path: Path):
    folder = write_task(tmp_path / "plain")
    write_task(folder, 16, "basic-induction")
    (tmp_path / "packed").mkdir()
    archive = tmp_path / "packed" / "babi_en_1k.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    tasks = open_story_tasks(folder)
    assert [(task.number, task.title) for task in tasks] == [(1, "single supporting fact"), (16, "basic induction")]
    assert open_story_tasks(archive) == tasks
    assert open_story_tasks(tmp_path / "packed") == tasks


def test_of_the_public_folder_english_with_a_thousand_questions_is_read(tmp_path: Path):
    write_task(tmp_path / "tasks_1-20_v1-2" / "en")
    write_task(tmp_path / "tasks_1-20_v1-2" / "en-10k", text=TEXT * 2)
    write_task(tmp_path / "tasks_1-20_v1-2" / "hn", text=TEXT * 3)
    assert len(open_story_tasks(tmp_path)[0].train) == 3
    assert len(open_story_tasks(tmp_path / "tasks_1-20_v1-2" / "en-10k")[0].train) == 6


def test_what_cannot_be_read_is_refused(tmp_path: Path):
    assert "holds no bAbI tasks" in refusal(lambda: open_story_tasks(tmp_path), DataError)
    write_task(tmp_path / "hn")
    write_task(tmp_path / "shuffled")
    assert "several folders (hn, shuffled)" in refusal(lambda: open_story_tasks(tmp_path), DataError)
    folder = write_task(tmp_path / "one")
    message = refusal(lambda: open_story_tasks(folder, [21]), DataError)
    assert "no training part of task 21: name tasks among [1]" in message
    (folder / "qa1_single-supporting-fact_test.txt").unlink()
    assert "no testing part of task 1" in refusal(lambda: open_story_tasks(folder), DataError)
    (folder / "qa1_single-supporting-fact_test.txt").write_bytes(b"1 \xff\xfe")
    assert "is no text" in refusal(lambda: open_story_tasks(folder), DataError)


# the named set


def test_the_set_holds_out_the_last_tenth_of_each_task(tmp_path: Path):
    write_task(tmp_path / "babi", text=TEXT * 10)
    write_task(tmp_path / "babi", 2, "two-supporting-facts", TEXT * 10)
    one = named_set("babi")
    assert one.recognises(tmp_path / "babi")
    (tmp_path / "empty").mkdir()
    assert not one.recognises(tmp_path / "empty")
    assert not one.recognises(tmp_path / "babi" / "qa1_single-supporting-fact_test.txt")
    splits = one.open(tmp_path / "babi", image_size=None, seed=0)
    assert splits.sizes() == {"train": 54, "val": 6, "test": 60}
    assert [splits.val[index]["task"] for index in range(6)] == [1, 1, 1, 2, 2, 2]
    assert splits.classes == ("bathroom", "milk,football")
    sample = splits.test[0]
    assert sample["question"] == ("where", "is", "mary")
    assert sample["name"] == "task01_00000"


def test_a_single_question_cannot_be_cut():
    question = parse_questions(TEXT, 1)[:1]
    assert "one question" in refusal(lambda: babi.hold_out_last_tenth(question), DataError)


def test_a_download_leaves_the_english_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def public(url: str, path: Path, progress: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz") as file:
            for folder in ("en", "en-10k"):
                for part in ("train", "test"):
                    content = (TEXT * 4).encode()
                    member = tarfile.TarInfo(f"tasks_1-20_v1-2/{folder}/qa1_single-supporting-fact_{part}.txt")
                    member.size = len(content)
                    file.addfile(member, io.BytesIO(content))

    monkeypatch.setattr(babi, "download_file", public)
    babi.SET.download(tmp_path / "babi", "https://example.org/babi.tar.gz", SilentProgress())
    assert sorted(path.name for path in (tmp_path / "babi").iterdir()) == [
        "qa1_single-supporting-fact_test.txt",
        "qa1_single-supporting-fact_train.txt",
    ]
    assert babi.SET.open(tmp_path / "babi", image_size=None, seed=0).sizes()["test"] == 12


def test_a_damaged_download_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def damaged(url: str, path: Path, progress: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no archive")

    monkeypatch.setattr(babi, "download_file", damaged)
    refusal(lambda: babi.SET.download(tmp_path / "babi", "https://example.org", SilentProgress()), DataError)


# stories of our own


def told(question: Question) -> str:
    """The answer, found by reading the supporting statements alone."""
    last = {}
    for place in sorted(question.supporting):
        *words, end = question.story[place]
        last[words[0]] = end
    ends = list(last.values())
    if question.task == 1:
        return ends[0]
    thing = question.question[-1]
    return next(end for end in (question.story[place][-1] for place in question.supporting) if end != thing)


def where_things_are(question: Question) -> str:
    """The answer, found by acting the whole story out."""
    people: dict[str, str] = {}
    holders: dict[str, str] = {}
    things: dict[str, str] = {}
    for person, *deed, end in question.story:
        if deed[-2] == "to":
            people[person] = end
        elif deed[0] in ("took", "picked", "grabbed"):
            assert end not in holders
            assert end not in things or things[end] == people[person]
            holders[end] = person
        else:
            assert holders.pop(end) == person
            things[end] = people[person]
    asked = question.question[-1]
    return people[holders[asked]] if asked in holders else {**things, **people}[asked]


@pytest.mark.parametrize("seed", [0, 1])
def test_answers_follow_from_the_story_and_from_its_support_alone(seed: int):
    for task in make_story_tasks(questions=300, seed=seed):
        assert len(task.train) == len(task.test) == 300
        assert task.train != task.test
        for question in task.train + task.test:
            assert question.answer == where_things_are(question) == told(question)
            assert len(question.supporting) == task.number


def test_stories_repeat_with_their_seed():
    assert make_story_tasks([2], questions=20, seed=3) == make_story_tasks([2], questions=20, seed=3)
    assert make_story_tasks([2], questions=20, seed=3) != make_story_tasks([2], questions=20, seed=4)


def test_only_two_tasks_can_be_made():
    assert "stories of task 3" in refusal(lambda: make_story_tasks([3]), DataError)


# the real ones


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data set is not here")
def test_the_shared_set_has_twenty_tasks_of_a_thousand_questions():
    tasks = open_story_tasks(SHARED)
    assert [task.number for task in tasks] == list(range(1, 21))
    assert all(len(task.train) == len(task.test) == 1000 for task in tasks)
    longest = {task.number: max(len(one.story) for one in task.train + task.test) for task in tasks}
    assert (longest[1], longest[2], longest[3], longest[4]) == (10, 88, 228, 2)
    words = {
        word for task in tasks for one in task.train + task.test for part in (*one.story, one.question) for word in part
    }
    assert len(words) == 145
    # Of the single and the two supporting facts each question names as many.
    assert all(len(one.supporting) == number for number in (1, 2) for one in tasks[number - 1].test)
