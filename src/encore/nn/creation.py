"""Making and loading models by name: `create_model`, `load`, `from_official`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encore.base import registry
from encore.base.errors import (
    CheckpointError,
    ConfigurationError,
    InputError,
    RunFolderError,
    UnknownNameError,
)
from encore.nn.checkpoints import load_state, read_state_dict
from encore.nn.model import EncoreModel, FeatureExtractor, Preprocessing


def create_model(
    name: str,
    *,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    features_only: bool = False,
    out_indices: tuple[int, ...] | None = None,
    **configuration: Any,
) -> Any:
    """Make the model registered as `name`.

    Args:
        name: one of `list_models()`.
        weights: a checkpoint, ours or in the official layout (recognised by the tensors' names), a RUN's
            folder, or a state dict.
        features_only: return the encoder alone, which answers with its feature maps.
        out_indices: with `features_only`, which maps.
        configuration: the model's own arguments (`num_classes=11`).

    Returns:
        A plain `nn.Module`; an `EncoreModel`, or a `FeatureExtractor` with `features_only`.

    Raises:
        UnknownNameError: no model of that name, or an argument that it does not take.
        ConfigurationError: an argument has an impossible value.
        CheckpointError: the weights do not fit.

    Example:
        >>> model = create_model("segnet_basic", num_classes=5)
    """
    factory = registry.model_factory(name)
    parameters = inspect.signature(factory).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in configuration:
            if key not in parameters:
                raise UnknownNameError(f"argument of the model '{name}'", key, parameters)
    try:
        model = factory(**configuration)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the model '{name}' cannot be made with {configuration}: {error}", "correct the arguments"
        ) from error
    model.registered_name = name
    if not isinstance(factory, type):
        model._hub_mixin_config = dict(configuration)
    model.task = registry.paper_of_model(name).tasks[0]
    if weights is not None:
        load_weights(model, weights)
    return FeatureExtractor(model, out_indices) if features_only else model


def load_weights(model: nn.Module, weights: str | Path | Mapping[str, Tensor]) -> None:
    """Load a checkpoint into `model`, mapping the official layout onto ours where it is one.

    Raises:
        CheckpointError: it fits neither layout.
    """
    state, where = _state_of(weights)
    name = getattr(model, "registered_name", None)
    if name is not None and not set(state) <= set(model.state_dict()):
        slug = registry.paper_of_model(name).slug
        if registry.has_part(slug, "weights"):
            mapping = registry.room(slug, "weights")
            if mapping.recognises(state):
                state = mapping.convert(state)
    load_state(model, state, where)


def _state_of(weights: str | Path | Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    if isinstance(weights, Mapping):
        return weights, "the state dict"
    path = Path(weights)
    if path.is_dir():
        path = path / "model.safetensors"
    return read_state_dict(path), str(path)


def from_official(slug: str, weights: str | Path | Mapping[str, Tensor], **overrides: Any) -> EncoreModel:
    """Open a checkpoint of a paper's official code in one call.

    The configuration is read off the tensors' names and shapes by the room's `weights.py`; an override is
    needed only for what no shape tells.

    Args:
        slug: the paper.
        weights: the official file, or its tensors by name.
        overrides: arguments of the model that replace what was read off.

    Raises:
        UnknownNameError: no such paper.
        InputError: the paper's room maps no official weights.
        CheckpointError: the tensors are not of that paper's official code.
    """
    paper = registry.card(slug)
    if not registry.has_part(slug, "weights"):
        raise InputError(f"no official weights are mapped for '{paper.slug}'", "make a model with create_model")
    mapping = registry.room(slug, "weights")
    state, where = _state_of(weights)
    if not mapping.recognises(state):
        shown = ", ".join(list(state)[:3])
        raise CheckpointError(
            f"{where} is not in the layout of the official '{slug}' code (tensors: {shown} …)",
            "give the authors' file",
        )
    name, configuration = mapping.configuration(state)
    model = create_model(name, **{**configuration, **overrides})
    load_state(model, mapping.convert(state), where)
    model.eval()
    return model


def load(source: str | Path) -> EncoreModel:
    """Load a trained model: a RUN's folder, what `save_pretrained` left, or `hf://owner/name`.

    Returns:
        The model in evaluation mode, with its preprocessing, task and classes.

    Raises:
        RunFolderError: the folder is none of Encore's.
        CheckpointError: its weights do not fit or are damaged.
        InputError: the hub cannot be reached or has no such model.
    """
    folder = _downloaded(source) if str(source).startswith("hf://") else Path(source)
    description = read_description(folder)
    if not (folder / "model.safetensors").is_file():
        raise RunFolderError(
            f"{folder} holds no trained model (model.safetensors)",
            "give a run that finished training, or continue it with --resume",
        )
    model = create_model(description["name"], **description["configuration"])
    model.preprocessing = Preprocessing.from_json(description["preprocessing"])
    model.task = description["task"]
    model.classes = tuple(description["classes"]) if description.get("classes") is not None else None
    if description.get("colours") is not None:
        model.colours = tuple((int(red), int(green), int(blue)) for red, green, blue in description["colours"])
    load_state(model, read_state_dict(folder / "model.safetensors"), str(folder / "model.safetensors"))
    model.eval()
    return model


def read_description(folder: Path | str) -> dict[str, Any]:
    """The entry `encore` of a run's `config.json`.

    Raises:
        RunFolderError: there is none, or it cannot be read.
    """
    folder = Path(folder)
    path = folder / "config.json"
    remedy = "give a folder that encore fit, encore run or save_pretrained left"
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not a run: there is no such folder", remedy)
    if not path.is_file():
        raise RunFolderError(f"{folder} is not a run: it has no config.json", remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged ({error})", remedy) from error
    description = content.get("encore") if isinstance(content, dict) else None
    if not isinstance(description, dict) or not {"name", "task", "configuration", "preprocessing"} <= set(description):
        raise RunFolderError(
            f"{folder} is not a run: its config.json has no entry 'encore' with name, task, configuration and preprocessing",
            remedy,
        )
    return description


def _downloaded(source: str | Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = str(source).removeprefix("hf://")
    try:
        config = hf_hub_download(repository, "config.json")
        hf_hub_download(repository, "model.safetensors")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{source} cannot be had from the Hugging Face hub ({reason})",
            "check the name and the connection, or give a local folder",
        ) from error
    return Path(config).parent
