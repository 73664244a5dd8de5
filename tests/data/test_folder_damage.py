"""However a folder is damaged: every sample keeps the contract, or one line says what is wrong."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from encore.base.errors import InputError
from encore.data.contracts import VOID
from encore.data.named import open_segmentation

from .conftest import make_folder, random_image, random_mask, save

FILES = [
    "classes.txt",
    *(f"train/{kind}/street_{index}.png" for kind in ("images", "masks") for index in range(4)),
    *(f"val/{kind}/street_{index}.png" for kind in ("images", "masks") for index in range(2)),
]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]
fraction = st.floats(0, 1, exclude_max=True)
damages = st.one_of(
    st.tuples(st.just("truncate"), st.sampled_from(FILES), fraction),
    st.tuples(st.just("flip"), st.sampled_from(FILES), st.lists(st.tuples(fraction, st.integers(0, 255)), min_size=1)),
    st.tuples(st.just("delete"), st.sampled_from(FILES), st.none()),
    st.tuples(st.just("rename"), st.sampled_from(FILES), st.sampled_from(["x.png", "street_1.PNG", "street_0.jpg"])),
    st.tuples(st.just("swap"), st.sampled_from(FILES), st.sampled_from(FILES)),
    st.tuples(st.just("mode"), st.sampled_from(FILES[1:]), st.sampled_from(MODES)),
    st.tuples(st.just("format"), st.sampled_from(FILES[1:]), st.sampled_from(["JPEG", "WEBP", "TIFF", "BMP", "GIF"])),
    st.tuples(st.just("size"), st.sampled_from(FILES[1:]), st.sampled_from([(1, 1), (12, 15), (40, 3)])),
    st.tuples(st.just("folder"), st.sampled_from(FILES), st.none()),
    st.tuples(st.just("text"), st.just("classes.txt"), st.text(max_size=40)),
    st.tuples(st.just("remove folder"), st.sampled_from(["train", "val", "train/masks", "val/images"]), st.none()),
)


def damage(root: Path, what: str, name: str, how: object) -> None:
    """Do one damage to the folder `root`; nothing happens to what is gone already."""
    path = root / name
    if what == "remove folder":
        shutil.rmtree(path, ignore_errors=True)
    if not path.is_file():
        return
    data = path.read_bytes()
    if what == "truncate":
        path.write_bytes(data[: int(how * len(data))])
    elif what == "flip" and data:
        changed = bytearray(data)
        for place, value in how:
            changed[int(place * len(data))] = value
        path.write_bytes(changed)
    elif what == "delete":
        path.unlink()
    elif what == "rename":
        path.rename(path.with_name(how))
    elif what == "swap" and (root / how).is_file():
        path.write_bytes((root / how).read_bytes())
        (root / how).write_bytes(data)
    elif what == "mode":
        Image.fromarray(random_mask()).convert(how).save(path)
    elif what == "format":
        Image.fromarray(random_image()).convert("L").save(path, how)
    elif what == "size":
        save(path, np.zeros(how, np.uint8))
    elif what == "folder":
        path.unlink()
        path.mkdir()
    elif what == "text":
        path.write_text(how, encoding="utf-8", errors="surrogatepass")


def check(sample: dict, num_classes: int) -> None:
    image, mask = sample["image"], sample["mask"]
    assert image.dtype == mask.dtype == torch.uint8
    assert image.shape == (3, *mask.shape)
    assert mask.numel() > 0
    assert isinstance(sample["name"], str)
    assert bool(((mask < num_classes) | (mask == VOID)).all())


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(damages, min_size=1, max_size=3), named=st.booleans())
def test_a_damaged_folder_keeps_the_contract_or_is_refused(steps: list, named: bool):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "data"
        make_folder(root / "train", count=4)
        make_folder(root / "val", count=2)
        if named:
            (root / "classes.txt").write_text("sky\nroad\ntree\n")
        early, late = steps[: len(steps) // 2 + 1], steps[len(steps) // 2 + 1 :]
        try:
            for step in early:
                damage(root, *step)
            splits = open_segmentation(str(root))
            for step in late:
                damage(root, *step)
            for part in (splits.train, splits.val, splits.test):
                for index in range(len(part)):
                    check(part[index], len(splits.classes))
        except InputError as error:
            refused = str(error)
        else:
            return
    assert "\n" not in refused
    assert "data" in refused
