"""The base class of every model: what it takes, how it is saved, which features it can hand out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from encore.base.errors import InputError
from encore.base.files import replacing, write_json
from encore.nn.checkpoints import write_safetensors

CONFIG = "config.json"
"""The file that describes a model or run, under the key `encore`."""

ENCODER = "encoder"
"""The folder of a run of masked pre-training that holds the encoder alone, a plain backbone."""


@dataclass(frozen=True)
class Preprocessing:
    """What `forward` takes, so that nobody has to remember it.

    Attributes:
        channel_order: order of the three colour channels that the network reads.
        scale: the value that white has before mean and std are applied (255 for raw pixels, 1 for most).
        mean, std: per channel, in the network's channel order and in units of `scale`.
        size: (height, width) to which images are resized, or None to take them as they are.
        crop_ratio: the share of the picture's middle that is kept before it is resized: the largest rectangle of
            `size`'s proportions, its sides times this (224 of 256 pixels: 0.875). None resizes the whole picture,
            whatever its proportions.
        interpolation: `bilinear` or `bicubic`, with antialiasing.
    """

    channel_order: Literal["RGB", "BGR"] = "RGB"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    size: tuple[int, int] | None = None
    crop_ratio: float | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __call__(self, images: Tensor) -> Tensor:
        """Turn pictures into the network's input.

        Args:
            images: (B, 3, H, W) or (3, H, W), RGB, `uint8` 0…255 or floating point 0…1.

        Returns:
            (B, 3, H', W') float32, where (H', W') is `size` if that is set.

        Raises:
            InputError: another number of dimensions or channels.
        """
        if images.ndim == 3:
            images = images.unsqueeze(0)
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                f"images of shape {tuple(images.shape)} came where (B, 3, H, W) in RGB is due",
                "read pictures with encore.data.images.read_image",
            )
        white = 255.0 if not images.is_floating_point() else 1.0
        inputs = images.to(torch.float32) * (self.scale / white)
        if self.channel_order == "BGR":
            inputs = inputs.flip(1)
        if self.mean != (0.0, 0.0, 0.0) or self.std != (1.0, 1.0, 1.0):
            mean, std = (inputs.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
            inputs = (inputs - mean) / std
        return self.resized(inputs)

    def resized(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) floating point, cropped by `crop_ratio`, → (B, C, *size); also of a size that is open."""
        if self.size is None:
            return inputs
        if self.crop_ratio is not None:
            inputs = middle(inputs, self.size, self.crop_ratio)
        # An exported program compares no sizes; to a map's own size resizing changes nothing.
        if not torch.compiler.is_exporting() and tuple(inputs.shape[-2:]) == tuple(self.size):
            return inputs
        return F.interpolate(inputs, self.size, mode=self.interpolation, antialias=True, align_corners=False)

    def picture(self, image: Tensor) -> Tensor:
        """What the network sees of a picture, as a picture: (3, H, W) uint8 → (3, *size) uint8."""
        plain = Preprocessing(scale=255.0, size=self.size, crop_ratio=self.crop_ratio, interpolation=self.interpolation)
        return plain(image)[0].round_().clamp_(0, 255).to(torch.uint8)


def middle(images: Tensor, size: tuple[int, int], ratio: float) -> Tensor:
    """The middle of (B, C, H, W): the largest rectangle of `size`'s proportions, its sides times `ratio`.

    Lengths may be open ones of `torch.export`.
    """
    height, width = images.shape[-2:]
    # The rectangle is (unit · size[0], unit · size[1]) / (size[0] · size[1]).
    unit = torch.sym_min(height * size[1], width * size[0])
    parts = 1024
    kept = round(ratio * parts)
    rows = torch.sym_max(unit * kept // (size[1] * parts), 1)
    columns = torch.sym_max(unit * kept // (size[0] * parts), 1)
    top, left = (height - rows) // 2, (width - columns) // 2
    return images.narrow(-2, top, rows).narrow(-1, left, columns)


IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""What most networks trained on ImageNet take, torchvision's among them: RGB 0…1, normalised."""


class FeatureInfo(NamedTuple):
    """One feature map that a backbone hands out.

    Attributes:
        name: the stage it comes from.
        num_channels: its channels.
        reduction: how many input pixels one of its cells is wide (the stride).
    """

    name: str
    num_channels: int
    reduction: int


@runtime_checkable
class Backbone(Protocol):
    """What a model implements to serve as an encoder for others (`create_model(…, features_only=True)`).

    A model that has more than its encoder also names, in an attribute `beyond_features`, the submodules that
    `forward_features` does not need; `create_model(…, features_only=True)` leaves them out.
    """

    feature_info: Sequence[FeatureInfo]
    """One entry per map, from the largest to the smallest."""

    def forward_features(self, inputs: Tensor) -> list[Tensor]:
        """Return the maps that `feature_info` describes, in its order."""
        ...


@runtime_checkable
class DeeplySupervised(Protocol):
    """A model with further heads, which are trained beside its own and left out of `forward`."""

    def supervised_logits(self, inputs: Tensor) -> list[tuple[Tensor, float]]:
        """The logits of every head, its own first, each with its weight in the loss; sizes may differ."""
        ...


class FeatureExtractor(nn.Module):
    """A backbone whose `forward` returns its feature maps.

    Args:
        model: any model that follows `Backbone`.
        out_indices: which of its maps to hand out; all by default.

    Raises:
        InputError: the model has no spatial features, or an index lies outside.
    """

    def __init__(self, model: nn.Module, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        if not isinstance(model, Backbone):
            raise InputError(
                f"{type(model).__name__} hands out no feature maps",
                "choose a backbone: a model with feature_info and forward_features",
            )
        self.model = model
        self.preprocessing = getattr(model, "preprocessing", Preprocessing())
        num_maps = len(model.feature_info)
        self.out_indices = tuple(range(num_maps)) if out_indices is None else tuple(out_indices)
        if any(not -num_maps <= index < num_maps for index in self.out_indices):
            raise InputError(
                f"out_indices {self.out_indices} ask for maps that {type(model).__name__} has not",
                f"it has {num_maps}: 0…{num_maps - 1}",
            )
        self.feature_info = [model.feature_info[index] for index in self.out_indices]

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """(B, C, H, W) → one map per entry of `feature_info`."""
        maps = self.model.forward_features(inputs)
        return [maps[index] for index in self.out_indices]


class EncoreModel(nn.Module, PyTorchModelHubMixin):
    """A model that says what it takes and can be saved, loaded and shared.

    Subclasses take only plain JSON values as constructor arguments; these are the model's configuration.

    Attributes:
        preprocessing: what `forward` takes.
        smallest_side: pictures that are narrower or lower than this are padded by `forward`, and not taken by an
            exported program of open sizes.
        task: the kind of work it was made for (`segmentation`), once known.
        classes: names of its outputs, once known.
        colours: display colours of the classes as RGB triples, once known.
        details: what else a task has to know of the data that the model was fitted to (a table's columns), as JSON
            values; kept in `config.json`.
    """

    registered_name: str | None = None
    preprocessing: Preprocessing = Preprocessing()
    smallest_side: int = 1
    task: str | None = None
    classes: tuple[str, ...] | None = None
    colours: tuple[tuple[int, int, int], ...] | None = None
    details: dict[str, Any] | None = None

    @property
    def configuration(self) -> dict[str, Any]:
        """The constructor's arguments, defaults included."""
        stored: Any = self._hub_mixin_config
        return dict(stored or {})

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def preprocess(self, images: Tensor) -> Tensor:
        """Turn RGB pictures, `uint8` (B, 3, H, W), into the input of `forward`, on the model's device."""
        return self.preprocessing(images.to(self.device, non_blocking=True)).to(next(self.parameters()).dtype)

    def fitting_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A checkpoint's tensors as this model takes them: what depends on the pictures' size is resized here.

        Args:
            state: by the model's own names; tensors may be missing or left over.
        """
        return state

    def description(self) -> dict[str, Any]:
        """What `config.json` holds under the key `encore`: all that is needed to build and use it again."""
        return {
            "name": self.registered_name,
            "task": self.task,
            "configuration": self.configuration,
            "preprocessing": asdict(self.preprocessing),
            "classes": list(self.classes) if self.classes is not None else None,
            "colours": [list(colour) for colour in self.colours] if self.colours is not None else None,
            **({} if self.details is None else {"details": self.details}),
        }

    def save(self, folder: Path | str, **more: Any) -> None:
        """Write `config.json` and `model.safetensors`, each whole or not at all.

        Args:
            folder: made if missing.
            more: further entries of `config.json`, beside `encore`.
        """
        folder = Path(folder)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with replacing(folder / "model.safetensors") as temporary:
            write_safetensors(temporary, tensors)
        write_json(folder / CONFIG, {"encore": self.description(), **more})

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **_: Any) -> EncoreModel:
        """Load a folder that `save_pretrained`, `fit` or `run` left, or a model of the Hugging Face hub."""
        from encore.nn.creation import load

        source = str(pretrained_model_name_or_path)
        return load(source if Path(source).exists() or source.startswith("hf://") else f"hf://{source}")


def num_parameters(model: nn.Module) -> int:
    """How many trainable values `model` holds."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
