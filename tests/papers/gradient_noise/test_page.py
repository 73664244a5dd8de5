"""The page's Python examples run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import encore

PAGE = Path(encore.__file__).parent / "papers" / "gradient_noise" / "page.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("example", EXAMPLES, ids=["loop", "lightning", "mixed_precision"])
def test_an_example_of_the_page_runs(example: str, clean_directory: Path):
    exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
