"""Models that leave Encore: ONNX, `torch.export` and safetensors files, compared with the model once written.

A task says what is exported and how (`Task.deployed`); here it is traced with open sizes, written as one file that
also says what the model is, opened again by the runtime it is for, and run beside the model.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.fx.experimental._config as tracing_configuration
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from encore.base.errors import EncoreError, InputError, RunFolderError
from encore.base.files import replacing
from encore.nn.batch_norm import folded
from encore.nn.checkpoints import write_safetensors
from encore.nn.model import EncoreModel

Format = Literal["onnx", "torch-export", "safetensors"]

SUFFIXES: dict[str, str] = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}

TOLERANCE = 1e-4
"""The largest difference between model and file, as a share of the output's largest magnitude."""

_DRAWS = 3
"""How many examples may be drawn per size: see `_compared`."""

_ONNX_LIMIT = 2 * 10**9
"""Bytes of weights that one ONNX file holds; a protocol buffer ends at 2 GiB."""

_EXTRA = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Port:
    """An input or output of an exported model.

    Attributes:
        name: in the file.
        dtype: `uint8`, `float32` …, as PyTorch spells it.
        shape: a number for each fixed length, a name for each open one; open lengths are 1 or more, `height` and
            `width` no less than the `smallest_side` that the exported module has, if any.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def example(self, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        """Random values: all of an integer type's bytes, or N(0, 1)."""
        shape = [sizes[length] if isinstance(length, str) else length for length in self.shape]
        dtype: torch.dtype = getattr(torch, self.dtype)
        if dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(dtype)
        return torch.randint(0, 256, shape, generator=generator).to(dtype)


@dataclass(frozen=True)
class Deployment:
    """What a task exports of a model.

    Attributes:
        module: in evaluation mode, on the CPU; takes the inputs in order and returns the output, or a tuple of them.
        inputs, outputs: in order.
        sizes: the open lengths by name; the module is traced at the first, the file is compared at all others.
        note: one sentence on how the file's answer differs from that of `encore predict`, where it does.
    """

    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    sizes: tuple[Mapping[str, int], ...]
    note: str | None = None

    def example(self, sizes: Mapping[str, int], seed: int) -> tuple[Tensor, ...]:
        """Random inputs of `sizes`."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(port.example(sizes, generator) for port in self.inputs)


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        file: where it lies.
        format: `onnx`, `torch-export` or `safetensors`.
        inputs, outputs: what goes in and comes out; none of safetensors, which holds weights alone.
        max_difference: the largest difference between model and file, as a share of the output's largest magnitude.
        note: see `Deployment`.
    """

    file: Path
    format: Format
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    max_difference: float
    note: str | None = None


class PicturesToMaps(nn.Module):
    """Pictures as they are → one map per output channel, at the pictures' size.

    Preprocessing is inside, batch normalisation folded; a model that was trained at another size sees the pictures
    at its own, and its maps are resized bilinearly.

    Args:
        model: (B, 3, H, W), preprocessed → (B, K, h, w), with its preprocessing; a copy is kept.
    """

    def __init__(self, model: EncoreModel) -> None:
        super().__init__()
        # Both resizings are unconditional here, so that no size is compared while tracing; to a map's own size
        # they change nothing.
        self.size = model.preprocessing.size
        self.smallest_side = model.smallest_side if self.size is None else 1
        self.preprocessing = replace(model.preprocessing, size=None)
        self.model = folded(model).cpu()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB → (B, K, H, W) float32."""
        inputs = self.preprocessing(image)
        if self.size is not None:
            inputs = F.interpolate(inputs, self.size, mode="bilinear", antialias=True, align_corners=False)
        maps: Tensor = self.model(inputs).float()
        return F.interpolate(maps, image.shape[-2:], mode="bilinear", align_corners=False)


def check_destination(file: Path, format: str) -> None:
    """Refuse a format that there is not, or that cannot be written here, and a file name that belies it.

    Raises:
        InputError: with the name or the installation that mends it.
    """
    if format not in get_args(Format):
        raise InputError(f"unknown format '{format}'", f"known: {', '.join(get_args(Format))}")
    if file.is_dir():
        raise RunFolderError(f"{file} is a folder", f"name a file that ends in {SUFFIXES[format]}")
    if file.suffix != SUFFIXES[format]:
        raise InputError(
            f"{file} does not end in {SUFFIXES[format]}, as {format} files do",
            f"write {file.with_suffix(SUFFIXES[format]) if file.name else 'a file'} or choose another format",
        )
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None] if format == "onnx" else []
    if missing:
        raise InputError(
            f"writing ONNX needs {', '.join(missing)}", "install them: pip install 'encore-papers[export]'"
        )


def export_model(model: EncoreModel, deployment: Deployment | None, file: Path, format: Format) -> Exported:
    """Write `model` to one file, whole or not at all, and compare the two.

    Args:
        model: described in the file: name, task, configuration, preprocessing, classes and colours.
        deployment: what its task exports; not needed for safetensors, which takes the weights as they are.
        file: with the format's suffix; replaced if it exists.
        format: one of `SUFFIXES`.

    Raises:
        InputError: the format, the file's name, an extra that is missing, or a place that cannot be written.
        EncoreError: the file answers otherwise than the model; it is not kept.
    """
    check_destination(file, format)
    with replacing(file) as temporary:
        temporary.touch()  # a place that cannot be written is named before the work
        if format == "safetensors":
            difference = _write_safetensors(model, temporary)
        elif deployment is None:
            raise ValueError(f"{format} needs a deployment")
        else:
            write = _write_onnx if format == "onnx" else _write_torch_export
            with torch.no_grad():
                write(model, deployment, temporary)
                difference = _compared(deployment, temporary, format)
    if deployment is None or format == "safetensors":
        return Exported(file, format, (), (), difference)
    return Exported(file, format, deployment.inputs, deployment.outputs, difference, deployment.note)


def metadata(model: EncoreModel, note: str | None = None) -> dict[str, str]:
    """What every file says of its model: `encore`, `classes`, `colours` as JSON, `encore_version`, `note`."""
    import encore

    description = model.description()
    entries = {
        "encore": json.dumps(description, ensure_ascii=False),
        "classes": json.dumps(description["classes"], ensure_ascii=False),
        "colours": json.dumps(description["colours"]),
        "encore_version": encore.__version__,
    }
    return entries if note is None else {**entries, "note": note}


def _write_safetensors(model: EncoreModel, path: Path) -> float:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_safetensors(path, tensors, metadata(model))
    read = load_file(path)
    if read.keys() != tensors.keys() or any(not read[name].equal(tensor) for name, tensor in tensors.items()):
        raise EncoreError(f"{path} does not hold the model's weights as they are")
    return 0.0


def _write_torch_export(model: EncoreModel, deployment: Deployment, path: Path) -> None:
    buffer = io.BytesIO()  # its own writer does not survive a full disk
    torch.export.save(_traced(deployment), buffer, extra_files=metadata(model, deployment.note))
    path.write_bytes(buffer.getbuffer())


def _write_onnx(model: EncoreModel, deployment: Deployment, path: Path) -> None:
    num_bytes = sum(tensor.nbytes for tensor in deployment.module.state_dict().values())
    if num_bytes > _ONNX_LIMIT:
        raise InputError(
            f"the model's weights take {num_bytes / 1e9:.1f} GB, and one ONNX file holds 2",
            "export it with --format torch-export",
        )
    import onnx_ir

    with _quiet():
        program = torch.onnx.export(
            _traced(deployment),
            input_names=[port.name for port in deployment.inputs],
            output_names=[port.name for port in deployment.outputs],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    for port, value in zip(
        (*deployment.inputs, *deployment.outputs),
        (*program.model.graph.inputs, *program.model.graph.outputs),
        strict=True,
    ):
        value.shape = onnx_ir.Shape(port.shape)
    program.model.metadata_props.update(metadata(model, deployment.note))
    program.model.producer_name, program.model.producer_version = "encore", metadata(model)["encore_version"]
    program.save(path, external_data=False)


def _traced(deployment: Deployment) -> torch.export.ExportedProgram:
    """The module as a graph whose lengths are open, from 1 or the smallest side on."""
    traced_at = deployment.sizes[0]
    least = {side: getattr(deployment.module, "smallest_side", 1) for side in ("height", "width")}
    open_lengths = {name: torch.export.Dim(name, min=least.get(name, 1)) for name in traced_at}
    shapes = tuple(
        {axis: open_lengths[length] for axis, length in enumerate(port.shape) if isinstance(length, str)}
        for port in deployment.inputs
    )
    # Without the setting lengths of 1, also of inner maps, would be taken for others; the guards that are deferred
    # are those that hold but cannot be proved: ⌈H/2⌉ ≤ 2⌈⌈H/2⌉/2⌉.
    with _quiet(), tracing_configuration.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(
            deployment.module,
            deployment.example(traced_at, seed=0),
            dynamic_shapes=shapes,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what PyTorch tells its own developers: operators of packages that are not there, its deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
            yield
    finally:
        logger.setLevel(level)


Run = Callable[[Sequence[Tensor]], list[Tensor]]


def _onnx_runtime(path: Path, deployment: Deployment) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in deployment.inputs]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        fed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, fed)]

    return run


def _loaded_program(path: Path, deployment: Deployment) -> Run:
    module = torch.export.load(path).module()
    return lambda inputs: _as_list(module(*inputs))


def _compared(deployment: Deployment, path: Path, format: Format) -> float:
    """The largest difference between the module and the file, over all sizes but the traced one.

    Where two values of a pooling window agree up to rounding, either may be the maximum, and a network that remembers
    its place answers otherwise around it. Such a tie is rare in random pictures: another one is drawn then. A file
    that is wrong is wrong in all of them.

    Raises:
        EncoreError: the difference is too large in every draw.
    """
    run = (_onnx_runtime if format == "onnx" else _loaded_program)(path, deployment)
    largest = 0.0
    for sizes in deployment.sizes[1:]:
        differences: list[float] = []
        while len(differences) < _DRAWS and (not differences or differences[-1] > TOLERANCE):
            inputs = deployment.example(sizes, seed=len(differences) + 1)
            due = _as_list(deployment.module(*inputs))
            differences.append(max(_difference(one, other) for one, other in zip(run(inputs), due, strict=True)))
        if min(differences) > TOLERANCE:
            shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise EncoreError(
                f"the {format} file differs from the model by {min(differences):.1e} of the output's magnitude "
                f"({shown}), more than {TOLERANCE}; it is not kept"
            )
        largest = max(largest, min(differences))
    return largest


def _difference(output: Tensor, due: Tensor) -> float:
    if output.shape != due.shape or output.dtype != due.dtype:
        return float("inf")
    scale = max(float(due.abs().max()), torch.finfo(torch.float32).tiny)
    difference = float((output - due).abs().max()) / scale
    return difference if difference == difference else float("inf")  # NaN


def _as_list(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
