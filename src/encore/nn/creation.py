"""Making and loading models by name: `create_model`, `load`, `from_official`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from encore.base import registry
from encore.base.errors import (
    CheckpointError,
    ConfigurationError,
    InputError,
    RunFolderError,
    UnknownNameError,
)
from encore.nn.checkpoints import load_state, read_state_dict, unwrapped
from encore.nn.model import CONFIG, ENCODER, EncoreModel, FeatureExtractor, Preprocessing


class Description(BaseModel):
    """The entry `encore` of a run's `config.json`: what `EncoreModel.description` wrote.

    Attributes:
        name: the model's registered name.
        task: the kind of work it was made for, once known.
        configuration: the arguments that it was made with.
        preprocessing: what its `forward` takes.
        classes, colours: of its outputs, once known.
        details: what else its task keeps with it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    task: str | None
    configuration: dict[str, Any]
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None = None
    colours: tuple[tuple[int, int, int], ...] | None = None
    details: dict[str, Any] | None = None

    def apply_to(self, model: EncoreModel) -> None:
        """Give `model` what its constructor does not take: preprocessing, task, classes, colours, details."""
        model.preprocessing = self.preprocessing
        model.task = self.task or model.task
        model.classes, model.colours, model.details = self.classes, self.colours, self.details


def create_model(
    name: str,
    *,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    features_only: bool = False,
    out_indices: tuple[int, ...] | None = None,
    fresh: Collection[str] = (),
    **configuration: Any,
) -> Any:
    """Make the model registered as `name`.

    Args:
        name: one of `list_models()`.
        weights: a checkpoint, ours or in the official layout (recognised by the tensors' names), a RUN's
            folder, or a state dict. From a RUN of the same model come also its configuration, where the call
            does not say otherwise, and its preprocessing, classes and colours; a RUN of masked pre-training holds the
            encoder that it trained, and what that lacks (a head) begins afresh.
        features_only: return the encoder alone, which answers with its feature maps.
        out_indices: with `features_only`, which maps; all by default.
        fresh: submodules that begin afresh where the weights have none of their shape (`("head",)` for other classes).
        configuration: the model's own arguments (`num_classes=11`).

    Returns:
        A plain `nn.Module`; an `EncoreModel`, or a `FeatureExtractor` with `features_only`.

    Raises:
        UnknownNameError: no model of that name, or an argument that it does not take.
        ConfigurationError: an argument has an impossible value.
        CheckpointError: the weights do not fit.
        RunFolderError: the RUN's `config.json` is damaged.
        InputError: with `features_only`, the model hands out no feature maps, or not those.

    Example:
        >>> model = create_model("segnet_basic", num_classes=5)
    """
    if out_indices is not None and not features_only:
        raise ConfigurationError("out_indices came without features_only", "add features_only=True or leave them out")
    factory = registry.model_factory(name)
    within = _encoder_of(weights, name)
    encoder_alone, weights = within is not weights, within
    described = _description_beside(weights, name)
    if described is not None:
        configuration = {**described.configuration, **configuration}
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
    model.task = model.task or registry.owner_of_model(name).tasks[0]
    if weights is not None:
        beyond = getattr(model, "beyond_features", ())
        is_backbone = described is not None and described.configuration.get("num_classes") == 0
        if encoder_alone:  # whatever lies beside the encoder there was not trained
            weights = {
                tensor_name: tensor
                for tensor_name, tensor in _state_of(weights)[0].items()
                if tensor_name.partition(".")[0] not in beyond
            }
        load_weights(model, weights, fresh=(*fresh, *(beyond if is_backbone or encoder_alone else ())))
    if described is not None:
        described.apply_to(model)
    if not features_only:
        return model
    extractor = FeatureExtractor(model, out_indices)
    for unused in getattr(model, "beyond_features", ()):
        delattr(model, unused)
    return extractor


def _encoder_of(
    weights: str | Path | Mapping[str, Tensor] | None, name: str
) -> str | Path | Mapping[str, Tensor] | None:
    """The folder of the encoder `name` in the RUN's folder `weights`, if that is of another model and has one."""
    if weights is None or isinstance(weights, Mapping) or not (Path(weights) / ENCODER / CONFIG).is_file():
        return weights
    encoder = Path(weights) / ENCODER
    there, outer = read_description(encoder).name, read_description(weights).name
    if name == outer:
        return weights
    if name != there:
        raise CheckpointError(f"{weights} holds a {outer} with the encoder {there}, not a {name}", f"make a {there}")
    return encoder


def size_of_weights(weights: str | Path | None) -> tuple[int, int] | None:
    """(height, width) of the pictures that the model in the RUN's folder `weights` saw; None if it is no RUN.

    Raises:
        RunFolderError: the RUN's `config.json` is damaged.
    """
    if weights is None or not (Path(weights) / CONFIG).is_file():
        return None
    return read_description(weights).preprocessing.size


def _description_beside(weights: str | Path | Mapping[str, Tensor] | None, name: str) -> Description | None:
    """The description in the RUN's folder `weights`, if it is one and of the model `name`."""
    if weights is None or isinstance(weights, Mapping) or not (Path(weights) / CONFIG).is_file():
        return None
    described = read_description(weights)
    return described if described.name == name else None


def load_weights(model: nn.Module, weights: str | Path | Mapping[str, Tensor], *, fresh: Collection[str] = ()) -> None:
    """Load a checkpoint into `model`, mapping the official layout onto ours where it is one.

    Weights that the paper's room knows as those of an encoder alone fill the encoder; the rest stays as it is, and so
    do the submodules `fresh` where their shapes differ.

    Raises:
        CheckpointError: it fits neither layout.
    """
    state, where = _state_of(weights)
    name = getattr(model, "registered_name", None)
    if name is not None and not set(state) <= set(model.state_dict()):
        mapping = registry.weights_mapping(name)
        if mapping is not None and mapping.recognises(state):
            _load_official(model, mapping, state, where, fresh)
            return
    load_state(model, _fitting(model, state), where, fresh=fresh)


def _load_official(
    model: Any, mapping: Any, state: Mapping[str, Tensor], where: str, fresh: Collection[str] = ()
) -> None:
    """Load recognised tensors, and let the room's optional `describe` say what the model takes and answers."""
    may_miss = model.beyond_features if _is_encoder(mapping, state) else ()
    load_state(model, _fitting(model, mapping.convert(state)), where, may_miss=may_miss, fresh=fresh)
    if hasattr(mapping, "describe"):
        mapping.describe(model, state)


def _fitting(model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return model.fitting_state(state) if isinstance(model, EncoreModel) else state


def _is_encoder(mapping: Any, state: Mapping[str, Tensor]) -> bool:
    return hasattr(mapping, "is_encoder") and mapping.is_encoder(state)


def _state_of(weights: str | Path | Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    if isinstance(weights, Mapping):
        return unwrapped(weights, "the state dict"), "the state dict"
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
    _load_official(model, mapping, state, where)
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
    model = create_model(description.name, **description.configuration)
    description.apply_to(model)
    load_state(model, read_state_dict(folder / "model.safetensors"), str(folder / "model.safetensors"))
    model.eval()
    return model


def read_description(folder: Path | str) -> Description:
    """The entry `encore` of a run's `config.json`.

    Raises:
        RunFolderError: there is none, or it cannot be read.
    """
    folder = Path(folder)
    path = folder / CONFIG
    remedy = "give a folder that encore fit, encore run or save_pretrained left"
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not a run: there is no such folder", remedy)
    if not path.is_file():
        raise RunFolderError(f"{folder} is not a run: it has no config.json", remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged ({error})", remedy) from error
    if not isinstance(content, dict) or not isinstance(content.get("encore"), dict):
        raise RunFolderError(f"{folder} is not a run: its config.json has no entry 'encore'", remedy)
    try:
        return Description.model_validate(content["encore"])
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
        raise RunFolderError(
            f"{path} is damaged: its entry 'encore' does not describe a model ({wrong})", remedy
        ) from error


def _downloaded(source: str | Path) -> Path:
    import httpx
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = str(source).removeprefix("hf://")
    try:
        config = hf_hub_download(repository, CONFIG)
        hf_hub_download(repository, "model.safetensors")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{source} cannot be had from the Hugging Face hub ({reason})",
            "check the name and the connection, or give a local folder",
        ) from error
    return Path(config).parent
