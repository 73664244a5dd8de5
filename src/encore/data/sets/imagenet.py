"""ImageNet-1K (Russakovsky and others, arXiv 1409.0575) as everybody keeps it: train/nXXXXXXXX/, val/nXXXXXXXX/."""

from __future__ import annotations

from pathlib import Path

from encore.data.classification import assembled
from encore.data.classification_folder import open_class_folders
from encore.data.contracts import DataSplits
from encore.data.named import NamedSet
from encore.data.resizing import Size


class ImageNet(NamedSet):
    """1.28 million photographs in 1,000 classes; its validation part is what everybody measures on."""

    name = "imagenet"
    title = "ImageNet-1K: photographs, 1000 classes, 1281167/50000"
    task = "classification"
    licence = "research, non-commercial"

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """val/ serves as test; a seeded tenth of train/ becomes val."""
        assert path is not None
        return assembled(open_class_folders(path), self.name, f"ImageNet-1K, {self.licence}", seed)


SET = ImageNet()
