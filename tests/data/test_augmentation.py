"""What happens to a sample is decided by seed, epoch and index alone; picture and mask move together."""

import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from encore.base.configuration import configure
from encore.base.errors import ConfigurationError, UnknownNameError
from encore.data.augmentation import Augmented, SegmentationAugmentation
from encore.data.contracts import VOID, SegmentationSample

from .conftest import random_image, refusal

EVERYTHING = SegmentationAugmentation(
    rotation=20, translation=0.1, scale=(0.8, 1.2), brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1
)
MOTION = SegmentationAugmentation(rotation=30, translation=0.2, scale=(0.7, 1.3))
NOTHING = SegmentationAugmentation(horizontal_flip=0)


class Blocks:
    """Pictures that show their mask: class 0, 1, 2 and void in blocks, painted 40, 90, 140 and 190 in red."""

    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> SegmentationSample:
        codes = np.kron(np.random.default_rng(index).integers(0, 4, (4, 5)), np.ones((8, 8), dtype=np.int64))
        image = random_image(index, *codes.shape)
        image[..., 0] = 40 + 50 * codes
        mask = np.where(codes == 3, VOID, codes).astype(np.uint8)
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1).contiguous(),
            "mask": torch.from_numpy(mask),
            "name": f"blocks_{index}",
        }


def augmented(configuration: SegmentationAugmentation = EVERYTHING, seed: int = 0) -> Augmented:
    return Augmented(Blocks(), configuration, seed)


def equal(one: SegmentationSample, other: SegmentationSample) -> bool:
    return torch.equal(one["image"], other["image"]) and torch.equal(one["mask"], other["mask"])


def test_augmented_samples_keep_the_contract():
    sample = augmented()[0, 1]
    assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
    assert sample["image"].shape == (3, 32, 40)
    assert sample["mask"].shape == (32, 40)
    assert set(sample["mask"].unique().tolist()) <= {0, 1, 2, VOID}
    assert sample["name"] == "blocks_1"
    assert len(augmented()) == 6
    assert augmented().classes == Blocks.classes


def test_a_sample_depends_on_nothing_that_ran_before():
    fresh = augmented()[3, 2]
    used = augmented()
    for key in ((0, 0), (3, 1), (7, 2)):
        used[key]
    torch.rand(5)
    np.random.random(5)
    random.random()
    assert equal(used[3, 2], fresh)
    assert equal(used[3, 2], fresh)


def test_a_sample_is_the_same_in_workers():
    keys = [(epoch, index) for epoch in (0, 1) for index in range(6)]
    here = [augmented()[key] for key in keys]
    loader = DataLoader(augmented(), sampler=keys, batch_size=None, num_workers=2)  # type: ignore[arg-type]
    assert all(equal(*pair) for pair in zip(loader, here, strict=True))


def test_a_sample_is_the_same_after_pickling():
    there = pickle.loads(pickle.dumps(augmented()))
    assert equal(there[1, 4], augmented()[1, 4])


def test_epochs_indices_and_seeds_differ():
    one = augmented()
    assert not equal(one[0, 0], one[1, 0])
    assert not equal(one[0, 0], augmented(seed=1)[0, 0])
    flips = SegmentationAugmentation(horizontal_flip=0.5)
    turned = [not equal(augmented(flips)[0, index], Blocks()[index]) for index in range(6)]
    again = [not equal(augmented(flips)[1, index], Blocks()[index]) for index in range(6)]
    assert len({*turned, *again}) == 2


def test_a_certain_flip_mirrors_picture_and_mask_exactly():
    sample, plain = augmented(SegmentationAugmentation(horizontal_flip=1))[0, 0], Blocks()[0]
    assert torch.equal(sample["image"], plain["image"].flip(-1))
    assert torch.equal(sample["mask"], plain["mask"].flip(-1))


@pytest.mark.parametrize("epoch", range(8))
def test_picture_and_mask_move_together(epoch: int):
    sample = augmented(MOTION)[epoch, 0]
    red, mask = sample["image"][0].long(), sample["mask"].long()
    shown = torch.full_like(mask, -1)
    for code, label in enumerate((0, 1, 2, VOID)):
        shown[(red - (40 + 50 * code)).abs() <= 1] = label  # not the mixtures along borders of blocks
    shown[red == 0] = VOID
    inside = shown >= 0
    assert float(inside.float().mean()) > 0.5
    assert float((shown == mask)[inside].float().mean()) > 0.98
    assert float((sample["mask"] != Blocks()[0]["mask"]).float().mean()) > 0.1


def test_pixels_from_outside_are_black_and_void_and_never_a_class():
    shrunk = SegmentationAugmentation(horizontal_flip=0, scale=(0.5, 0.5))
    sample = augmented(shrunk)[0, 0]
    rows, columns = slice(10, 22), slice(12, 28)
    outside = torch.ones(32, 40, dtype=torch.bool)
    outside[8:24, 10:30] = False
    assert set(sample["mask"][outside].tolist()) == {VOID}
    assert sample["image"][:, :6].max() == 0
    assert {0, 1, 2} & set(sample["mask"][rows, columns].unique().tolist())


def test_colours_change_the_picture_and_leave_the_mask():
    colours = SegmentationAugmentation(horizontal_flip=0, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2)
    sample, plain = augmented(colours)[0, 0], Blocks()[0]
    assert torch.equal(sample["mask"], plain["mask"])
    assert not torch.equal(sample["image"], plain["image"])


def test_high_class_indices_survive():
    class Many(Blocks):
        def __getitem__(self, index: int) -> SegmentationSample:
            mask = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
            return {"image": torch.zeros(3, 16, 16, dtype=torch.uint8), "mask": mask, "name": "many"}

    sample = Augmented(Many(), SegmentationAugmentation(horizontal_flip=1), 0)[0, 0]
    assert torch.equal(sample["mask"], torch.arange(256, dtype=torch.uint8).reshape(16, 16).flip(-1))


def test_random_numbers_outside_are_left_alone():
    one = augmented()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    one[0, 0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_random_numbers_of_the_gpu_are_left_alone():
    torch.cuda.manual_seed(5)
    before = torch.cuda.get_rng_state()
    augmented()[0, 0]
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_no_gpu_generator_is_seeded(monkeypatch: pytest.MonkeyPatch):
    def refuse(_: int) -> None:
        raise AssertionError("the global seed was set")

    monkeypatch.setattr(torch, "manual_seed", refuse)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    augmented()[0, 0]


def test_where_nothing_may_happen_samples_come_unchanged():
    assert NOTHING.pipeline() is None
    assert equal(augmented(NOTHING)[4, 1], Blocks()[1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("horizontal_flip", 1.5),
        ("rotation", -1),
        ("rotation", float("nan")),
        ("translation", 2),
        ("scale", [1.2, 0.8]),
        ("scale", [0, 1]),
        ("scale", [1, float("inf")]),
        ("scale", [float("nan"), 1]),
        ("scale", 1),
        ("brightness", -0.1),
        ("hue", 0.6),
        ("hue", "much"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_the_key(key: str, value: object):
    message = refusal(lambda: configure(SegmentationAugmentation, {key: value}), ConfigurationError)
    assert f"'{key}" in message


def test_unknown_keys_are_refused_with_the_nearest():
    message = refusal(lambda: configure(SegmentationAugmentation, {"rotaton": 3}), UnknownNameError)
    assert "did you mean 'rotation'?" in message
