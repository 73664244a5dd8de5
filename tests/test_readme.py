"""The README's Python runs, and its table is what `make tables` writes."""

import re
from pathlib import Path

from encore.results.locations import published_records
from encore.results.record import RESULT, read_record
from encore.results.tables import all_claims, with_claims

README = Path(__file__).parents[1] / "README.md"


def test_the_python_of_the_readme_runs(clean_directory: Path):
    text = README.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S):
        exec(compile(code, str(README), "exec"), names)
    assert tuple(names["logits"].shape) == (1, 11, 90, 120)
    assert len(names["encoder"].feature_info) == 5
    assert names["optimizer"].eta == 0.01


def test_the_claims_table_is_written_from_the_records():
    text = README.read_text(encoding="utf-8")
    records = [read_record(found) for found in sorted(published_records().glob(f"*/{RESULT}"))]
    assert with_claims(text, all_claims(records)) == text


def test_every_file_that_the_readme_shows_is_there():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).is_file(), target
