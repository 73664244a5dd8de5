"""Bibliographies and folders: what is read, and that whatever is wrong is named with its line."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encore.base.errors import DataError
from encore.hub.entries import Entry
from encore.hub.sources import bibliography, bibtex, json_folder
from encore.hub.sources.reading import Reading

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reading_of(folder: Path, name: str, text: str | bytes) -> Reading:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return bibliography.read(path)


BIBTEX = r"""
% a comment
@string{cvpr = "Computer Vision and Pattern Recognition"}
@preamble{"\newcommand{\x}{y}"}
@article{noh2015,
  title = {Learning {D}econvolution Network \& {S}egmentation for $p < 0.5$},
  author = {Noh, Hyeonwoo and M{\"u}ller, J{\"o}rg and {\'E}mile Zola and van der Berg, Jan and {The Big Team}},
  year = 2015, month = may, journal = {arXiv preprint arXiv:1505.04366v2},
  abstract = {We propose a network --- and we
     test it on 90\% of it.},
}
@inproceedings{dated, title = "Some
  Thing", author = "A. B. and others", date = {2021-11-22}, booktitle = cvpr, doi = {https://doi.org/10.1109/ABC.12\_3}}
@misc{e, title={E}, author={X Y}, year={2020}, eprint={2101.00001}, archivePrefix={arXiv}, url={https://arxiv.org/abs/2101.00001}}
@misc{d, title={D}, author={X Y}, year={2020}, doi={10.48550/arXiv.2102.00002}, github={https://github.com/a/b}}
"""


def test_bibtex_is_read_with_its_accents(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, "a.bib", BIBTEX)
    assert reading.refused == []
    noh, dated, eprint, doi = reading.entries
    assert noh.title == "Learning Deconvolution Network & Segmentation for $p < 0.5$"
    assert noh.authors == ["Hyeonwoo Noh", "Jörg Müller", "Émile Zola", "Jan van der Berg", "The Big Team"]
    assert noh.abstract == "We propose a network — and we test it on 90% of it."
    assert (noh.arxiv, noh.listed_on, noh.published) == ("1505.04366", datetime.date(2015, 5, 1), None)
    assert (dated.title, dated.authors, dated.doi) == ("Some Thing", ["A. B."], "10.1109/abc.12_3")
    assert dated.published == datetime.date(2021, 11, 22)
    assert (eprint.arxiv, eprint.url) == ("2101.00001", "https://arxiv.org/abs/2101.00001")
    assert (doi.arxiv, doi.doi, doi.code_url) == ("2102.00002", None, "https://github.com/a/b")


def test_bibtex_that_is_broken_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    reading = reading_of(
        tmp_path,
        "a.bib",
        "@article{one, title={One}, year=2020}\n@article{broken, title={abc\n"
        "@misc{twice, title={T}, year=2020, year=2021}\n@misc{undated, title={U}}\n"
        "@misc{untitled, year=2020}\n@misc{one, title={Another One}, year={2021}}\n"
        "@misc{x, title={X}, year={in press}}",
    )
    assert [entry.title for entry in reading.entries] == ["One", "Another One"]
    assert sorted(reading.refused) == [
        "a.bib, line 2 (broken): it is no BibTeX (a brace or quote is not closed)",
        "a.bib, line 3 (twice): it is no BibTeX (year is given twice)",
        "a.bib, line 4 (undated): it has neither date nor year",
        "a.bib, line 5 (untitled): it has no title",
        "a.bib, line 7 (x): it has neither date nor year",
    ]


RIS = """TY  - JOUR
ID  - noh
TI  - Learning Deconvolution
 in two lines
AU  - Noh, Hyeonwoo
AU  - Müller, Jörg
PY  - 2015
DA  - 2015/05/17/
AB  - We propose
DO  - 10.1109/ICCV.2015.178
UR  - https://arxiv.org/abs/1505.04366
ZZ  - who knows
ER  -

TY  - CONF
T1  - Old names
A1  - Lovelace, Ada
Y1  - 1843///
ER  -
TY  - JOUR
TI  - Unfinished
TY  - JOUR
AU  - Nobody
PY  - 2020
ER  -
"""


def test_ris_is_read_and_what_is_unfinished_is_named(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, "a.ris", "\ufeff" + RIS.replace("\n", "\r\n"))
    one, two = reading.entries
    assert (one.title, one.authors) == ("Learning Deconvolution in two lines", ["Hyeonwoo Noh", "Jörg Müller"])
    assert (one.published, one.doi, one.arxiv) == (datetime.date(2015, 5, 17), "10.1109/iccv.2015.178", "1505.04366")
    assert (two.title, two.authors, two.listed_on) == ("Old names", ["Ada Lovelace"], datetime.date(1843, 1, 1))
    assert reading.refused == [
        "a.ris, line 20: it does not end with 'ER  -'",
        "a.ris, line 22: it has no title",
    ]


CSV = """Title,Authors,Date,DOI,arxiv,url,code
"One, two","Ada Lovelace; Babbage, Charles",2020-05-06,10.1234/x,2101.00001v3,javascript:alert(1),https://github.com/a/b

,Nobody,2020
Three,,
Four,,long ago
Five,,2020,,,,,,,
"Six
lines",,2021-13-45
"Seven &amp; eight
lines",,2021
"""


def test_csv_is_read_and_what_does_not_fit_is_named_by_line(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, "a.csv", CSV)
    one, seven = reading.entries
    assert (one.title, one.authors) == ("One, two", ["Ada Lovelace", "Charles Babbage"])
    assert (one.arxiv, one.url, one.code_url) == ("2101.00001", None, "https://github.com/a/b")
    assert (one.doi, one.published) == ("10.1234/x", datetime.date(2020, 5, 6))
    assert (seven.title, seven.listed_on) == ("Seven & eight lines", datetime.date(2021, 1, 1))
    assert reading.refused == [
        "a.csv, line 4: it has no title",
        "a.csv, line 5 (Three): it has neither date nor year",
        "a.csv, line 6 (Four): it has neither date nor year",
        "a.csv, line 7 (Five): it has 10 fields and the first line names 7",
        "a.csv, line 8 (Six lines): '2021-13-45' is no date",
    ]


def test_a_csv_without_titles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'title'"):
        reading_of(tmp_path, "a.csv", "name,year\nx,2020\n")


def test_semicolons_and_tabs_separate_too(tmp_path: Path) -> None:
    assert reading_of(tmp_path, "a.csv", "title;year\nOne;2020\n").entries[0].title == "One"
    assert reading_of(tmp_path, "a.tsv", "title\tyear\nOne\t2020\n").entries[0].title == "One"


def test_a_file_in_an_old_encoding_is_read(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, "a.csv", "title,authors,year\nÜber alles,Jörg,2020\n".encode("cp1252"))
    assert reading.entries[0].title == "Über alles"


@pytest.mark.parametrize("name", ["absent.bib", "a.txt", "bytes.csv"])
def test_what_is_no_bibliography_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\x81\x8d\x00" * 10)
    with pytest.raises(DataError) as caught:
        bibliography.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@QUICK
@given(
    text=st.text(st.sampled_from('@{}=,"\\\n aé#%$&12/-articletiyr'), max_size=200),
    kind=st.sampled_from(["bib", "csv", "ris"]),
)
def test_garbage_is_read_or_refused_and_never_more(tmp_path: Path, text: str, kind: str) -> None:
    head = {"bib": "@article{x,", "csv": "title,year,date,authors\n", "ris": "TY  - JOUR\nTI  - x\n"}[kind]
    tail = {"bib": "}\n@misc{last, title={Last}, year=2020}", "csv": "", "ris": "\nER  -"}[kind]
    for one in (head + text + tail, "title,year\n" * (kind == "csv") + text):
        try:
            reading = reading_of(tmp_path, f"a.{kind}", one)
        except DataError:
            continue
        assert all("\n" not in line for line in reading.refused)
        assert all(entry.title and entry.listed_on for entry in reading.entries)


@QUICK
@given(
    name=st.sampled_from(
        ["{\\'e}", "\\'{e}", "\\'e", '{\\"u}', "\\ss ", "{\\o}", "\\v{c}", "~", "{", "}", "\\", "$", "\\frac"]
    ),
    depth=st.integers(0, 60),
)
def test_strange_latex_is_never_an_error(tmp_path: Path, name: str, depth: int) -> None:
    title = "{" * depth + f"a{name}b" + "}" * depth
    reading = reading_of(
        tmp_path, "a.bib", f"@misc{{x, title={{{title}}}, year=2020, author={{{name} and {name}, B}}}}"
    )
    assert len(reading.entries) + len(reading.refused) >= 1


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"S{\o}ren and S\o ren", "Søren and Søren"),
        (r"{The \emph{Big} Team}", "The Big Team"),
        (r"\'Etude \`a la {\c c}a", "Étude à la ça"),
        (r"$\mathbf{x} < 2$ holds for 5\% of Gau\ss{} curves", r"$\mathbf{x} < 2$ holds for 5% of Gauß curves"),
        (r"{\'{\i}}ndice {NLP}--{CV}", "índice NLP–CV"),
        (r"A $1$ { b", "A $1$ b"),
    ],
)
def test_latex_becomes_letters(latex: str, text: str) -> None:
    assert " ".join(bibtex._decoded(latex).split()) == text


def test_braces_without_an_end_are_refused_in_time(tmp_path: Path) -> None:
    reading = reading_of(tmp_path, "a.bib", "@misc{x, title={" + "{" * 3000 + "}" * 3000 + "}, year=2020}")
    assert len(reading.entries) + len(reading.refused) == 1


# a folder of JSON


def test_json_has_the_fields_of_an_entry(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps(
            [
                {
                    "title": "One",
                    "published": "2026-11-20",
                    "arxiv": "https://arxiv.org/abs/2611.00001v2",
                    "tasks": ["x"],
                },
                {"title": "Two", "listed_on": "2026-11-20", "authors": ["A"], "outside_votes": 3},
            ]
        )
    )
    (tmp_path / "b.json").write_text(json.dumps({"title": "Three", "published": "2026-11-20"}))
    reading = json_folder.read(tmp_path)
    assert [entry.title for entry in reading.entries] == ["One", "Two", "Three"]
    assert reading.entries[0].arxiv == "2611.00001"
    assert all(isinstance(entry, Entry) and entry.source == "json" for entry in reading.entries)
    assert reading.refused == []


def test_json_that_does_not_fit_is_named(tmp_path: Path) -> None:
    odd = [
        {"title": "Good", "published": "2026-11-20"},
        {"published": "2026-11-20"},
        {"title": "T", "published": "yesterday"},
        {"title": "T", "abstrakt": "x"},
        {"title": "T", "url": "javascript:alert(1)"},
        {"title": "T", "arxiv": "nonsense"},
        {"title": "T", "outside_votes": -1},
        "text",
        None,
    ]
    (tmp_path / "a.json").write_text(json.dumps(odd))
    (tmp_path / "b.json").write_text("{not json")
    (tmp_path / "c.json").write_text("[" * 100_000)
    reading = json_folder.read(tmp_path)
    assert [entry.title for entry in reading.entries] == ["Good"]
    starts = [line.split(":")[0] for line in reading.refused]
    assert starts[:2] == ["a.json, paper 2", "a.json, paper 3 (T)"]
    assert starts[-2:] == ["b.json", "c.json"]
    assert len(starts) == len(odd) - 1 + 2
    assert "abstrakt" in reading.refused[2]


def test_a_folder_without_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.json"):
        json_folder.read(tmp_path)
    with pytest.raises(DataError, match="there is no"):
        json_folder.read(tmp_path / "absent")
