"""Classification data written as people have it: one folder of pictures per class, below train/, val/ and test/."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from encore.base.files import new_folder
from encore.base.progress import ProgressReporter
from encore.data.named import NamedSet


def write_class_folders(source: NamedSet, folder: Path, *, seed: int = 0, progress: ProgressReporter) -> dict[str, int]:
    """Write an embedded set as PNGs, `train/CLASS/NAME.png` …, whole or not at all.

    Args:
        source: an embedded set of the task classification.
        folder: made; refused where something lies in it.
        seed: of cuts that the set does not make itself.
        progress: told of every picture.

    Returns:
        The number of pictures in each part.

    Raises:
        RunFolderError: the folder is not empty or cannot be written.
    """
    splits = source.open(None, image_size=None, seed=seed)
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    total, step = sum(len(part) for part in parts.values()), 0
    with new_folder(folder) as partial:
        for name, part in parts.items():
            for one in splits.classes:
                (partial / name / one).mkdir(parents=True, exist_ok=True)
            for index in range(len(part)):
                sample = part[index]
                place = partial / name / splits.classes[sample["label"]] / f"{sample['name']}.png"
                Image.fromarray(sample["image"].permute(1, 2, 0).numpy()).save(place)
                step += 1
                progress.update(f"writing {source.name}", step, total)
    return splits.sizes()
