"""However a folder is damaged, `encore fit` leaves a whole run, or none and one line."""

import contextlib
import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from encore.cli import main

from ..data.conftest import make_folder
from ..data.test_folder_damage import damage, damages
from .conftest import TINY

WHOLE = {"config.json", "curves.json", "examples.png", "metrics.json", "model.safetensors", "request.json"}


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(damages, min_size=1, max_size=3))
def test_a_run_on_a_damaged_folder_is_whole_or_is_none(steps: list):
    with tempfile.TemporaryDirectory() as place:
        root, run = Path(place) / "data", Path(place) / "run"
        make_folder(root / "train", count=4)
        make_folder(root / "val", count=2)
        (root / "classes.txt").write_text("sky\nroad\ntree\n")
        for step in steps:
            damage(root, *step)
        words = ("fit", "segmentation", str(root), "--epochs", "1", "--out", str(run), "--progress", "none")
        told = io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            code = main([*words, *TINY])
        lines = told.getvalue().splitlines()
        assert "Traceback" not in told.getvalue()
        if code == 0:
            files = {path.name for path in run.iterdir() if path.is_file()}
            assert files >= WHOLE
            assert not [name for name in files if "partial" in name]
        else:
            assert code == 2
            assert not run.exists()
            assert lines[-1].startswith("encore: ")
