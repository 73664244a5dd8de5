"""Architectures, weights and preprocessing from the Hugging Face hub, or from a folder in its layout."""

from __future__ import annotations

import importlib
import json
import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor

from encore.base.errors import CheckpointError, InputError
from encore.nn.model import IMAGENET, Preprocessing

_REMEDY = "check the name and the connection, or give a local folder that transformers' save_pretrained left"
_UNREADABLE = (OSError, ValueError, HfHubHTTPError, HFValidationError, StrictDataclassError, httpx.HTTPError)
_UNFIT = (*_UNREADABLE, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError)


def library() -> Any:
    """The package `transformers`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise InputError(
            "this backbone needs transformers, which is not installed",
            "install it: pip install 'encore-papers[text]'",
        ) from error


def backbone_types() -> list[str]:
    """The `model_type`s of which transformers makes backbones by itself, without timm."""
    library()
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    return [name for name in auto.MODEL_FOR_BACKBONE_MAPPING_NAMES if name != "timm_backbone"]


def require_backbone(model_type: str, where: str) -> None:
    """Refuse an architecture that hands out no feature maps.

    Raises:
        InputError: with those that do.
    """
    known = backbone_types()
    if model_type not in known:
        raise InputError(f"{where} is of the type '{model_type}', which is no backbone", f"known: {', '.join(known)}")


def architecture(config: Any) -> dict[str, Any]:
    """What makes an architecture, out of a config of transformers: `model_type` and its own fields as JSON values.

    Fields that every config has (labels, dtype, versions, names of files) are left out, so that what is left builds
    the same network without any of them.
    """
    common = set(library().PretrainedConfig().to_dict()) | {"out_features", "out_indices", "stage_names"}
    own = {name: value for name, value in config.to_dict().items() if name not in common}
    plain: dict[str, Any] = json.loads(json.dumps(own))
    return {"model_type": config.model_type, **plain}


def read_architecture(config: Mapping[str, Any]) -> Any:
    """The config of transformers that `config`, a `config.json` or what `architecture` returned, describes.

    Raises:
        InputError: it is of no type that is a backbone.
        ValueError: a field has an impossible value.
    """
    fields = dict(config)
    model_type = fields.pop("model_type", None)
    if not isinstance(model_type, str):
        raise ValueError("config has no model_type (resnet, convnext, swin …)")
    require_backbone(model_type, "the config")
    try:
        return library().AutoConfig.for_model(model_type, **fields)
    except (StrictDataclassError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"config describes no {model_type}: {_first_line(error)}") from error


@dataclass(frozen=True)
class Source:
    """A model of the hub, or a folder in its layout; nothing but its config is read until it is asked for.

    Attributes:
        name: `owner/name`, or the folder.
        config: as transformers reads it.
    """

    name: str
    config: Any

    @property
    def classifies(self) -> bool:
        """Whether its weights have a classification head."""
        architectures = self.config.architectures or []
        return any("ForImageClassification" in one for one in architectures)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the head's order."""
        labels: dict[int, str] = self.config.id2label
        return tuple(str(labels[index]) for index in sorted(labels))

    def model(self) -> tuple[Any, set[str]]:
        """The classification model, or the bare encoder where there is no head; float32, every tensor on the CPU.

        Returns:
            The model, and the names of its tensors that the weights do not tell.

        Raises:
            CheckpointError: the weights are missing, damaged or of another shape.
        """
        kind = library().AutoModelForImageClassification if self.classifies else library().AutoModel
        return self._loaded(kind)

    def backbone(self, kind: Any, config: Any) -> tuple[Any, set[str]]:
        """As `model`, but a backbone of the class `kind`, made of `config`."""
        return self._loaded(kind, config=config)

    def _loaded(self, kind: Any, **more: Any) -> tuple[Any, set[str]]:
        options = {"trust_remote_code": False, "dtype": torch.float32, "ignore_mismatched_sizes": True, **more}
        try:
            with torch.device("cpu"), _silent_loading():
                model, found = kind.from_pretrained(self.name, output_loading_info=True, **options)
        except (*_UNFIT, ImportError) as error:
            raise CheckpointError(
                f"the weights of {self.name} cannot be loaded ({_first_line(error)})", _REMEDY
            ) from error
        if found["mismatched_keys"]:
            name, came, due = sorted(found["mismatched_keys"])[0]
            raise CheckpointError(
                f"the weights of {self.name} do not fit its config.json: {name} is {tuple(came)}, not {tuple(due)}",
                "copy or download the folder again",
            )
        return model, set(found["missing_keys"])

    def preprocessing(self) -> Preprocessing:
        """What its `preprocessor_config.json` says, ImageNet's where there is none; the size is left open.

        Raises:
            InputError: the file is damaged.
        """
        path = self._file("preprocessor_config.json")
        if path is None:
            return IMAGENET
        try:
            return read_preprocessing(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path} does not say how pictures are prepared ({error})", "correct or remove it") from (
                error
            )

    def _file(self, name: str) -> Path | None:
        if Path(self.name).is_dir():
            path = Path(self.name) / name
            return path if path.is_file() else None
        try:
            return Path(hf_hub_download(self.name, name))
        except EntryNotFoundError:
            return None
        except _UNREADABLE as error:
            raise InputError(f"{name} of {self.name} cannot be had ({_first_line(error)})", _REMEDY) from error


def read_preprocessing(content: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in a `preprocessor_config.json`: scale, mean and standard deviation.

    Raises:
        ValueError: mean or deviation are not of three channels.
    """
    scale = 255.0
    if content.get("do_rescale", True):
        scale *= content.get("rescale_factor", 1 / 255)
    if not content.get("do_normalize", True):
        return Preprocessing(scale=scale)
    mean, std = (
        tuple(float(value) for value in content.get(name, default))
        for name, default in (("image_mean", IMAGENET.mean), ("image_std", IMAGENET.std))
    )
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"image_mean and image_std have {len(mean)} and {len(std)} values, not 3")
    return Preprocessing(scale=scale, mean=mean, std=std)


def open_source(name: str) -> Source:
    """Read the config of a model of the hub (`microsoft/resnet-50`) or of a folder.

    Raises:
        InputError: there is no such folder or model, it has no config, the hub cannot be reached, or it is no backbone.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        name = str(folder)
        if not (folder / "config.json").is_file():
            raise InputError(f"{name} holds no config.json", _REMEDY)
    elif folder.is_absolute() or folder.exists() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InputError(f"{name} is no folder", _REMEDY)
    try:
        config = library().AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (*_UNREADABLE, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name} is no model that transformers can open ({_first_line(error)})", _REMEDY) from error
    require_backbone(config.model_type, name)
    return Source(name, config)


@contextmanager
def _silent_loading() -> Iterator[None]:
    """Without progress bars, and without the report of missing and left-over tensors, which the caller checks."""
    bars = importlib.import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    logger = logging.getLogger("transformers.modeling_utils")
    reports: list[logging.LogRecord] = []

    def held_back(record: logging.LogRecord) -> bool:
        report = "LOAD REPORT" in record.getMessage()
        if report:
            reports.append(record)
        return not report

    bars.disable_progress_bar()
    logger.addFilter(held_back)
    try:
        yield
    except Exception:
        logger.removeFilter(held_back)
        for record in reports:  # loading failed, and the report may say why
            logger.handle(record)
        raise
    finally:
        logger.removeFilter(held_back)
        if shown:
            bars.enable_progress_bar()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
