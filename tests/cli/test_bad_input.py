"""Bad input through the command line: one line with the remedy, exit code 2, nothing half-written."""

import io
import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import encore as library

from .conftest import TINY


@pytest.fixture(autouse=True)
def own_directory(clean_directory: Path) -> None:
    """Runs go below a folder of the test's own."""


def refused(answer, *words: str) -> str:
    """See that a command was refused as the contract says; returns its line."""
    assert answer.code == 2, answer
    assert answer.out == ""
    complaints = [line for line in answer.err.splitlines() if line.startswith("encore: ")]
    assert len(complaints) == 1, answer.err
    assert answer.err.splitlines()[-1] == complaints[0]
    for word in words:
        assert word in complaints[0]
    assert "Traceback" not in answer.err
    return complaints[0]


def fit(encore, data: Path, out: Path, *words: object):
    return encore("fit", "segmentation", data, "--epochs", 1, "--out", out, "--progress", "none", *TINY, *words)


@pytest.mark.parametrize("verb", ["run", "show"])
def test_an_unknown_paper_suggests_the_nearest(encore, verb: str):
    refused(encore(verb, "segnett"), "did you mean 'segnet'")


def test_an_unknown_paper_or_task_to_fit(encore, streets_folder: Path):
    refused(encore("fit", "segmentatoin", streets_folder), "did you mean 'segmentation'")


def test_a_verb_that_the_paper_lacks(encore, streets_folder: Path):
    refused(encore("run", "hnerv"), "planned", "segnet")
    refused(encore("fit", "pdlt", streets_folder), "'pdlt' has no 'fit'", "run, ask")


def test_an_unknown_verb_and_option(encore):
    refused(encore("perform", "segnet"), "No such command")
    refused(encore("run", "segnet", "--scales", "smoke"), "No such option", "--help")
    refused(encore("run", "segnet", "--scale", "huge"), "smoke")
    refused(encore("run"), "Missing argument")
    refused(encore("run", "segnet", "--precision", "bf16"), "bf16-mixed")


def test_an_unknown_key_comes_with_the_list_of_keys(encore, streets_folder: Path, tmp_path: Path):
    line = refused(fit(encore, streets_folder, tmp_path / "run", "--set", "training.epoch=3"), "training.epochs")
    assert "image_size" in line
    refused(encore("run", "segnet", "--set", "learning_rate=3"), "training.learning_rate")
    refused(fit(encore, streets_folder, tmp_path / "run", "--set", "image_size=big"), "image_size")
    refused(fit(encore, streets_folder, tmp_path / "run", "--set", "training.batch_size"), "key=value")
    refused(fit(encore, streets_folder, tmp_path / "run", "--set", "model=segnet_basics"), "segnet_basic")
    refused(fit(encore, streets_folder, tmp_path / "run", "--set", "model_arguments.size=3"), "width")
    assert not (tmp_path / "run").exists()


def test_an_unknown_claim_and_no_seeds(encore):
    refused(encore("run", "segnet", "--claim", "speed"), "boundary_f1")
    refused(encore("run", "segnet", "--seeds", 0), "at least 1")


def test_an_empty_folder_and_none(encore, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    refused(fit(encore, tmp_path / "empty", tmp_path / "run"), "empty", "images/ and masks/")
    refused(fit(encore, tmp_path / "absent", tmp_path / "run"), "absent")
    assert not (tmp_path / "run").exists()


def _no_mask(data: Path) -> None:
    (data / "masks" / "street_3.png").unlink()


def _no_image(data: Path) -> None:
    (data / "images" / "street_3.png").unlink()


def _another_size(data: Path) -> None:
    Image.new("L", (31, 24)).save(data / "masks" / "street_3.png")


def _beyond_the_classes(data: Path) -> None:
    Image.fromarray(np.full((24, 32), 12, dtype=np.uint8)).save(data / "masks" / "street_3.png")


def _in_colours(data: Path) -> None:
    Image.new("RGB", (32, 24)).save(data / "masks" / "street_3.png")


def _truncated_png(data: Path) -> None:
    file = data / "images" / "street_3.png"
    file.write_bytes(file.read_bytes()[:900])


def _truncated_jpeg(data: Path) -> None:
    file = data / "images" / "street_3.png"
    jpeg = file.with_suffix(".jpg")
    Image.open(file).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:-200])
    file.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_mask, ("no mask", "street_3.png")),
        (_no_image, ("no image", "street_3.png")),
        (_another_size, ("street_3.png", "32 × 24", "31 × 24")),
        (_beyond_the_classes, ("street_3.png", "12", "11 classes")),
        (_in_colours, ("street_3.png", "RGB", "class index")),
        (_truncated_png, ("street_3.png", "damaged or truncated")),
        (_truncated_jpeg, ("street_3.jpg", "damaged or truncated")),
    ],
)
def test_damaged_data_is_named_and_no_run_is_begun(encore, damaged: Path, tmp_path: Path, damage, words):
    damage(damaged)
    refused(fit(encore, damaged, tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_an_out_that_is_not_empty_or_cannot_be_written(encore, streets_folder: Path, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    refused(fit(encore, streets_folder, tmp_path / "full"), "not empty", "--resume")
    refused(fit(encore, streets_folder, tmp_path / "full", "--resume"), "no run")
    refused(fit(encore, streets_folder, tmp_path / "full" / "mine.txt" / "run"), "cannot write")
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_resuming_with_other_options_names_them(encore, trained: Path, streets_folder: Path, tmp_path: Path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    refused(fit(encore, streets_folder, run, "--resume", "--seed", 9), "other values of")


def test_a_run_that_is_none(encore, tmp_path: Path, streets_folder: Path):
    refused(encore("predict", tmp_path, streets_folder / "images"), "is not a run")
    refused(encore("evaluate", tmp_path / "absent", streets_folder), "no such folder")
    refused(encore("compare", tmp_path, tmp_path), "no measurements")
    refused(encore("compare", tmp_path), "two runs")


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.mark), "w"))


def test_a_pickle_that_poses_as_a_checkpoint_is_never_executed(encore, streets_folder: Path, tmp_path: Path):
    mark, checkpoint = tmp_path / "executed", tmp_path / "weights.pth"
    checkpoint.write_bytes(pickle.dumps(_Bomb(mark)))
    refused(fit(encore, streets_folder, tmp_path / "run", "--set", f"weights={checkpoint}"), "weights.pth")
    assert not mark.exists()
    assert not (tmp_path / "run").exists()


def test_a_truncated_model_and_one_of_another_net(encore, trained: Path, streets_folder: Path, tmp_path: Path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    weights = run / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(encore("evaluate", run, streets_folder), "model.safetensors")
    weights.write_bytes(whole)
    config = run / "config.json"
    config.write_text(config.read_text().replace('"width": 8', '"width": 16'))
    refused(encore("evaluate", run, streets_folder), "of another shape")
    weights.unlink()
    refused(encore("evaluate", run, streets_folder), "holds no trained model")


def test_a_loss_that_turns_nan_stops_with_the_step_and_the_remedy(encore, streets_folder: Path, tmp_path: Path):
    wild = (
        "--set",
        "training.optimizer=sgd",
        "--set",
        "training.learning_rate=1e38",
        "--set",
        "training.schedule=constant",
    )
    refused(fit(encore, streets_folder, tmp_path / "run", *wild), "at step 2", "learning_rate")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_absent_data_says_how_to_get_it(encore):
    refused(encore("fit", "segnet", "camvid"), "encore data get camvid", "--data camvid=PATH")
    refused(encore("fit", "segnet", "camvidd"), "did you mean 'camvid'")
    refused(encore("run", "segnet", "--data", "camvid=nowhere"), "does not exist")
    refused(encore("data", "get", "camvidd"), "did you mean 'camvid'")
    refused(encore("data", "get", "streets"), "embedded")
    refused(encore("data", "make", "streets", "--size", "big"), "height x width")


def test_a_set_that_is_not_what_its_name_says(encore, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    refused(encore("run", "segnet", "--data", tmp_path / "empty", "--out", tmp_path / "run"), "no pictures in train/")
    assert not (tmp_path / "run").exists()


def test_a_damaged_picture_among_the_inputs_is_named_before_anything_is_written(
    encore, trained: Path, damaged: Path, tmp_path: Path
):
    _truncated_png(damaged)
    refused(encore("predict", trained, damaged / "images", "--out", tmp_path / "out"), "street_3.png")
    refused(encore("predict", trained, tmp_path / "absent.png", "--out", tmp_path / "out"), "absent.png")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there(encore, streets_folder: Path, tmp_path: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    answer = encore("fit", "segmentation", streets_folder, "--device", "cuda", "--out", tmp_path / "run")
    refused(answer, "--device cpu")


def test_pictures_of_every_kind_and_size_are_segmented_at_their_own(encore, trained: Path, tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    pictures = {
        "pixel.png": Image.new("RGB", (1, 1), (9, 200, 3)),
        "grey.png": Image.fromarray(noise[..., 0]),
        "sixteen.png": Image.fromarray(noise[..., 0].astype(np.uint16) * 257),
        "rgba.png": Image.fromarray(noise),
        "cmyk.tif": Image.frombytes("CMYK", (40, 30), noise.tobytes()),
        "palette.png": Image.fromarray(noise[..., :3]).quantize(16),
        "line.webp": Image.fromarray(noise[:1, :, :3]),
        "large.jpg": Image.fromarray(noise[..., :3]).resize((5000, 5000)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    files = [tmp_path / name for name in pictures]
    answer = encore("predict", trained, *files, "--out", tmp_path / "out", "--progress", "none")
    assert answer.code == 0, answer.err
    for name, picture in pictures.items():
        with Image.open(tmp_path / "out" / f"{Path(name).stem}.png") as mask:
            assert mask.size == picture.size


def test_a_picture_beyond_the_memory_is_refused_with_what_it_would_need(encore, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**9))
    model = library.create_model("segnet_basic", num_classes=2)
    model.classes = ("road", "sky")
    model.save_pretrained(tmp_path / "run")  # no size of its own: pictures are taken as they are
    Image.new("RGB", (3000, 2000)).save(tmp_path / "vast.png")
    (tmp_path / "small.png").write_bytes(_png(8, 8))
    pictures = (tmp_path / "small.png", tmp_path / "vast.png")
    answer = encore("predict", tmp_path / "run", *pictures, "--out", tmp_path / "out")
    refused(answer, "vast.png of 2000×3000 pixels would need", "1.0 GB are free", "reduce it")
    assert not (tmp_path / "out").exists()


def _png(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_thousand_classes_are_too_many(encore, damaged: Path, tmp_path: Path):
    (damaged / "classes.txt").write_text("\n".join(f"class {index}" for index in range(1000)))
    refused(fit(encore, damaged, tmp_path / "run"), "1000 classes", "255")
    (damaged / "classes.txt").unlink()
    Image.fromarray(np.full((24, 32), 999, dtype=np.uint16)).save(damaged / "masks" / "street_3.png")
    refused(fit(encore, damaged, tmp_path / "run"), "hold the values", "classes.txt")
    assert not (tmp_path / "run").exists()


def test_a_class_that_never_occurs_has_no_figure_and_harms_none(encore, damaged: Path, tmp_path: Path):
    with (damaged / "classes.txt").open("a") as file:
        file.write("\nunicorn\n")
    answer = fit(encore, damaged, tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    metrics = json.loads(answer.out)["metrics"]
    assert metrics["accuracy/unicorn"] is None
    assert 0 <= metrics["mean_iou"] <= 100


def test_masks_without_a_class_anywhere_are_refused(encore, damaged: Path, tmp_path: Path):
    for path in (damaged / "masks").iterdir():
        Image.new("L", (32, 24), 255).save(path)
    refused(fit(encore, damaged, tmp_path / "run"), "void")
    assert not (tmp_path / "run").exists()


def test_some_masks_without_a_class_are_passed_over(encore, damaged: Path, tmp_path: Path):
    for index in range(0, 16, 2):
        Image.new("L", (32, 24), 255).save(damaged / "masks" / f"street_{index}.png")
    answer = fit(encore, damaged, tmp_path / "run", "--set", "training.batch_size=1", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["metrics"]["mean_iou"] > 0


def test_weights_of_another_net(encore, trained: Path, streets_folder: Path, tmp_path: Path):
    other = ("--set", "model=fcn_basic", "--set", f"weights={trained / 'model.safetensors'}")
    refused(fit(encore, streets_folder, tmp_path / "run", *other), "does not fit FCNBasic", "missing")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_batch_of_one_that_leaves_one_value_is_passed_over_or_refused(encore, damaged: Path, tmp_path: Path):
    for name in ("images", "masks"):
        for index in range(11, 16):
            (damaged / name / f"street_{index}.png").unlink()
    words = ("--epochs", 1, "--set", "model=deconvnet", "--device", "cpu", "--progress", "none")
    command = ("fit", "segmentation", damaged, *words)
    # nine for training: the ninth is left out of the epoch, and of the statistics
    answer = encore(*command, "--set", "training.batch_size=4", "--out", tmp_path / "four")
    assert answer.code == 0, answer.err
    answer = encore(*command, "--set", "training.batch_size=1", "--out", tmp_path / "one")
    assert "one value per channel" in refused(answer, "training.batch_size")
