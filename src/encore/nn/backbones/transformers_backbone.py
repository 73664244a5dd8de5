"""Any backbone of the Hugging Face library `transformers` as a model of Encore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from encore.base.errors import CheckpointError
from encore.base.registry import register_model
from encore.nn.backbones.families import FAMILIES, prepare, reductions
from encore.nn.backbones.pretrained import Source, architecture, below, library, open_source, read_architecture
from encore.nn.checkpoints import load_state
from encore.nn.layer_depths import stage_depths
from encore.nn.model import IMAGENET, EncoreModel, FeatureInfo


@register_model("transformers_backbone")
class TransformersBackbone(EncoreModel):
    """A backbone of transformers, with the classification head of its family.

    ```text
    (B, C, H, W) → encoder → maps of the stages (B, C_i, H/r_i, W/r_i)
    last map → mean (ResNet) | mean → LN (ConvNeXt) | LN → mean (Swin) → linear → (B, K)
    ```

    As a backbone (`features_only=True`) it hands out the maps of all stages but the stem, largest first. Pictures of
    any size are taken; Swin pads them, ResNet and ConvNeXt want at least the stride of their last map.

    What is saved is the architecture, never `source`: a RUN loads without the hub. Weights of a source come along only
    when the model is made. A published classification network fills the head as well, with the names of its classes,
    if `num_classes` is left out or is its own.

    Args:
        source: a model of the hub (`microsoft/resnet-50`) or a folder in the hub's layout, with weights.
        config: instead, an architecture without weights: the content of a `config.json` of transformers
            (`{"model_type": "resnet", "depths": [2, 2, 2, 2], …}`).
        num_classes: K; 0 for a backbone that classifies nothing; None for those of the source's head, else 0.
        in_channels: channels of the pictures; None for the architecture's own.
        drop_path: stochastic depth, rising linearly to this over all blocks; None for the architecture's own.
        feature_norms: whether every map that is handed out is normalised, as in detection with Swin and ConvNeXt.
            These norms are never pre-trained.
        small_stem: for small pictures, a residual network begins with a 3×3 convolution of stride 1, not with 7×7
            of stride 2 and max pooling.

    Raises:
        InputError: transformers is not installed, the source cannot be had, or it is no backbone.
        CheckpointError: the source's weights do not fill the encoder.
        ValueError: the architecture has no such option, or neither or both of `source` and `config` were given.
    """

    preprocessing = IMAGENET
    beyond_features = ("norm", "head")

    def __init__(
        self,
        source: str | None = None,
        config: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        in_channels: int | None = None,
        drop_path: float | None = None,
        feature_norms: bool = False,
        small_stem: bool = False,
    ) -> None:
        super().__init__()
        opened = open_source(source) if source is not None else None
        if (opened is None) == (config is None):
            raise ValueError("give source, for an architecture with weights, or config, for one without")
        fields = architecture(opened.config) if opened is not None else dict(config or {})
        if in_channels is not None:
            if in_channels < 1:
                raise ValueError(f"in_channels is {in_channels}")
            if opened is not None and in_channels != fields.get("num_channels", 3):
                raise ValueError(f"in_channels is {in_channels}, but {source} takes {fields.get('num_channels', 3)}")
            fields["num_channels"] = in_channels
        if opened is not None and small_stem:
            raise ValueError(f"small_stem does not fit the weights of {source}")
        if drop_path is not None:
            if not 0 <= drop_path < 1:
                raise ValueError(f"drop_path is {drop_path}; it lies from 0 to below 1")
            if "drop_path_rate" in fields or fields.get("model_type") in FAMILIES:
                fields["drop_path_rate"] = drop_path
        parsed = read_architecture(fields)
        fields = architecture(parsed)
        rate = float(getattr(parsed, "drop_path_rate", 0.0) if drop_path is None else drop_path)
        if opened is not None and opened.classifies and parsed.model_type in FAMILIES:
            if num_classes is None:
                num_classes = len(opened.classes)
            if num_classes == len(opened.classes):
                self.classes = opened.classes
        self.num_classes = num_classes or 0
        if self.num_classes < 0:
            raise ValueError(f"num_classes is {num_classes}")
        parsed.out_features = [name for name in parsed.stage_names if name != "stem"]
        try:
            self.encoder: Any = library().AutoBackbone.from_config(parsed)
        except (ImportError, RuntimeError, TypeError, ZeroDivisionError, IndexError) as error:
            raise ValueError(f"no {parsed.model_type} can be made of this config ({error})") from error
        prepare(self.encoder, parsed, feature_norms=feature_norms, drop_path=rate, small_stem=small_stem)
        self.feature_info = [
            FeatureInfo(name, channels, reduction)
            for name, channels, reduction in zip(
                parsed.out_features,
                self.encoder.channels,
                reductions(self.encoder, parsed, small_stem=small_stem),
                strict=True,
            )
        ]
        self.model_type: str = parsed.model_type
        family = FAMILIES.get(self.model_type)
        self.head_kind = family.head if family is not None else "mean"
        width = self.feature_info[-1].num_channels
        normed = self.num_classes > 0 and self.head_kind != "mean"
        self.norm: nn.Module = nn.LayerNorm(width, eps=parsed.layer_norm_eps) if normed else nn.Identity()
        self.head = nn.Linear(width, self.num_classes) if self.num_classes else nn.Identity()
        if normed and isinstance(self.head, nn.Linear):
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        if opened is not None:
            self.preprocessing = opened.preprocessing()
            if not next(self.encoder.parameters()).is_meta:  # which has shapes alone
                self._fill(opened)
        self._hub_mixin_config = {
            "config": fields,
            "num_classes": self.num_classes,
            "drop_path": rate,
            "feature_norms": feature_norms,
            "small_stem": small_stem,
        }

    def _fill(self, source: Source) -> None:
        """Load the weights of `source` into the encoder, and into norm and head where they are of this shape.

        Raises:
            CheckpointError: they leave parts of the encoder as they were.
        """
        where = f"the weights of {source.name}"
        family = FAMILIES.get(self.model_type)
        if family is None:
            backbone, missing = source.backbone(type(self.encoder), self.encoder.config)
            state = backbone.state_dict()
        else:
            whole, missing = source.model()
            body = whole.base_model if source.classifies else whole
            tensors = body.state_dict()
            state = family.backbone_state(tensors)
            self._fill_head(whole, tensors, missing, where)
        told_nothing = [name for name in missing if not _belongs_to_head(name)]
        if told_nothing:
            raise CheckpointError(
                f"{where} leave {len(told_nothing)} tensors of the encoder open ({sorted(told_nothing)[0]} …)",
                "give a folder or model whose weights are those of its config.json",
            )
        own = self.encoder.state_dict()
        load_state(
            self.encoder, {name: one for name, one in state.items() if name in own}, where, may_miss=_FEATURE_NORMS
        )

    def _fill_head(self, whole: Any, body: Mapping[str, Tensor], missing: set[str], where: str) -> None:
        told_norm = not any("layernorm" in name and _belongs_to_head(name) for name in missing)
        if isinstance(self.norm, nn.LayerNorm) and told_norm:
            load_state(self.norm, below(body, "layernorm."), where)
        if self.classes is not None:
            linear = next(module for module in whole.classifier.modules() if isinstance(module, nn.Linear))
            load_state(self.head, linear.state_dict(), where)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) → the map of every stage, as `feature_info` describes them."""
        return list(self.encoder(x).feature_maps)

    def pooled(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → the features that are classified, (B, C) of the last stage."""
        last = self.forward_features(x)[-1]
        if self.head_kind == "norm_mean":
            features: Tensor = self.norm(last.permute(0, 2, 3, 1)).mean((1, 2))
        else:
            features = self.norm(last.mean((-2, -1)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W), normalised RGB → logits (B, K); `pooled` where K is 0."""
        logits: Tensor = self.head(self.pooled(x))
        return logits

    def parameter_depths(self) -> dict[str, int]:
        """The layer of each parameter, for `layer_decay`.

        A ConvNeXt of four stages has the authors' groups (official `get_num_layer_for_convnext`): stem 0, stages 1, 2
        and 12, the blocks of the third by threes from 3 on, head last. Others have one layer a block.
        """
        depths = [int(depth) for depth in getattr(self.encoder.config, "depths", ())]
        if self.model_type in ("convnext", "convnextv2") and len(depths) == 4 and depths[2] <= 27:
            third = [3 + block // 3 for block in range(depths[2])]
            return stage_depths(self, [[1] * depths[0], [2] * depths[1], third, [12] * depths[3]])
        return stage_depths(self)

    def no_weight_decay(self) -> set[str]:
        """Swin's tables of relative positions, as in the authors' code."""
        return {name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")}


_FEATURE_NORMS = ("hidden_states_norms",)
_HEAD = ("layernorm", "classifier", "hidden_states_norms", "pooler")


def _belongs_to_head(name: str) -> bool:
    """Whether a tensor of transformers lies beyond the encoder: `layernorm.weight`, `swin.layernorm.bias` …"""
    first, _, rest = name.partition(".")
    return first in _HEAD or (first in FAMILIES and rest.partition(".")[0] in _HEAD)
