"""SegNet and SegNet-Basic (Badrinarayanan, Kendall, Cipolla; arXiv 1511.00561, PAMI 2017).

Each decoder stage puts its input back where the matching encoder stage's max pooling found its maxima, then
makes the sparse map dense with convolutions. Between the two halves only these positions are kept, two bits
per window and channel: `stored_bytes` counts them.

Layers carry the names of the official Caffe prototxts, so that published weights map by renaming. Where the
paper and the prototxts differ, the prototxts are followed: convolutions have biases, which the paper's text
leaves out, and SegNet-Basic's decoder has no ReLU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from encore.base.errors import InputError
from encore.base.registry import register_model
from encore.nn.memory import on_meta_device
from encore.nn.model import EncoreModel, FeatureInfo, Preprocessing
from encore.nn.pooling import PoolingOffsets, max_pool2d_with_offsets, max_unpool2d_from_offsets

Stages = tuple[tuple[tuple[str, int], ...], ...]

Visit = Callable[[Tensor, Tensor, Any], None]
"""Is shown an encoder stage's map before pooling, the pooled map, and where the maxima were."""

ENCODER: Stages = (
    (("conv1_1", 64), ("conv1_2", 64)),
    (("conv2_1", 128), ("conv2_2", 128)),
    (("conv3_1", 256), ("conv3_2", 256), ("conv3_3", 256)),
    (("conv4_1", 512), ("conv4_2", 512), ("conv4_3", 512)),
    (("conv5_1", 512), ("conv5_2", 512), ("conv5_3", 512)),
)
"""The 13 convolutions of VGG16 with their output channels, by stage."""

DECODER: Stages = (
    (("conv5_3_D", 512), ("conv5_2_D", 512), ("conv5_1_D", 512)),
    (("conv4_3_D", 512), ("conv4_2_D", 512), ("conv4_1_D", 256)),
    (("conv3_3_D", 256), ("conv3_2_D", 256), ("conv3_1_D", 128)),
    (("conv2_2_D", 128), ("conv2_1_D", 64)),
    (("conv1_2_D", 64),),
)
"""The decoder, deepest stage first. Channels drop in the last convolution of a stage, so that the next
unpooling meets its encoder stage's channels. The classifier `conv1_1_D` follows."""

RAW_BGR = Preprocessing(channel_order="BGR", scale=255.0)
"""What the Caffe data layer hands over: BGR, 0…255, no mean subtracted."""


class SegmentationHourglass(EncoreModel, ABC):
    """An encoder, what is kept of it for the decoder, and a decoder that sees nothing else.

    `forward(x)` is `decode(*encode(x))`. Subclasses implement both; `kept` may hold tensors, `PoolingOffsets`
    and plain sizes in lists and tuples, which is what `stored_bytes` counts.

    As a backbone (`features_only=True`) it hands out the pooled map of every encoder stage, named `pool1`,
    `pool2` … as in the prototxts: that of stage i is (B, C_i, ⌈H/2^i⌉, ⌈W/2^i⌉).

    Args:
        num_classes: K.
        in_channels: channels of the pictures.
        encoder: names and output channels of the encoder's convolutions, by stage.
        kernel_size: their odd side.
        dropout: probability with which single values are zeroed in training, at `dropout_places`.
        dropout_places: `pool3` drops behind the third pooling, `decoder3` behind the decoder stage that
            returns to the third stage's size.

    Raises:
        ValueError: a number is not positive, the side even, or the probability outside 0…1.
    """

    preprocessing = RAW_BGR

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        encoder: Stages,
        kernel_size: int,
        dropout: float = 0.0,
        dropout_places: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels, self.encoder = num_classes, in_channels, encoder
        check_positive(num_classes=num_classes, in_channels=in_channels, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} is even, so that maps would change their size")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout {dropout} is no probability in 0…1, 1 left out")
        self.dropout, self.dropout_places = nn.Dropout(dropout), tuple(dropout_places) if dropout > 0 else ()
        channels = in_channels
        for name, out_channels in (unit for stage in encoder for unit in stage):
            self.add_unit(name, channels, out_channels, kernel_size)
            channels = out_channels

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The maps of `forward_features`."""
        return [FeatureInfo(f"pool{i}", stage[-1][1], 2**i) for i, stage in enumerate(self.encoder, start=1)]

    @property
    def beyond_features(self) -> list[str]:
        """The submodules that are not the encoder's."""
        names = {"dropout", *(name for stage in self.encoder for name, _ in stage)}
        return [name for name, _ in self.named_children() if name.removesuffix("_bn") not in names]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) → every stage's map after pooling, (B, C_i, ⌈H/2^i⌉, ⌈W/2^i⌉)."""
        maps: list[Tensor] = []
        self.encode_stages(x, lambda full, pooled, offsets: maps.append(pooled))
        return maps

    def encode_stages(self, x: Tensor, visit: Visit) -> Tensor:
        """Run the encoder, showing `visit` each stage's map before pooling, the pooled map and its maxima's places."""
        return self.run_stages(self.prepared(x), range(len(self.encoder)), visit)

    def prepared(self, x: Tensor) -> Tensor:
        """What the first convolution sees; refuses what is not (B, in_channels, H, W)."""
        self.check_input(x)
        return x

    def run_stages(self, x: Tensor, stages: range, visit: Visit) -> Tensor:
        """Some encoder stages, counted from 0: [dropout of the map that comes →] units → pooling."""
        for index in stages:
            x = self.drop(f"pool{index}", x)
            for name, _ in self.encoder[index]:
                x = self.apply_unit(name, x)
            full = x
            x, places = self.pool(full, index)
            visit(full, x, places)
            del full, places  # so that they live no longer than what was kept of them
        return x

    def pool(self, x: Tensor, stage: int) -> tuple[Tensor, Any]:
        """Halve a map, (B, C, H, W) → (B, C, ⌈H/2⌉, ⌈W/2⌉), and remember where the maxima were."""
        return max_pool2d_with_offsets(x)

    def unpool(self, x: Tensor, places: Any) -> Tensor:
        """Put values back where their maxima were; the inverse of `pool`."""
        return max_unpool2d_from_offsets(x, places)

    def drop(self, place: str, x: Tensor) -> Tensor:
        """Dropout, if `place` is among `dropout_places`."""
        return self.dropout(x) if place in self.dropout_places else x

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, Any]:
        """(B, in_channels, H, W) → the deepest map, and what the decoder needs beside it."""

    @abstractmethod
    def decode(self, features: Tensor, kept: Any) -> Tensor:
        """The deepest map and what was kept → logits (B, num_classes, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            x: (B, in_channels, H, W), raw BGR 0…255; any H and W from 1 on.

        Returns:
            Logits, (B, num_classes, H, W).

        Raises:
            InputError: another number of dimensions or channels.
        """
        features, kept = self.encode(x)
        return self.decode(features, kept)

    def check_input(self, x: Tensor) -> None:
        """Refuse what is not (B, in_channels, H, W)."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise InputError(
                f"a tensor of shape {tuple(x.shape)} came where {type(self).__name__} takes "
                f"(B, {self.in_channels}, H, W)",
                f"give batches of pictures with {self.in_channels} channels: model.preprocess(images)",
            )

    def add_unit(self, name: str, in_channels: int, out_channels: int, kernel_size: int, groups: int = 1) -> None:
        """Make the convolution `name` and its batch normalisation `name`_bn, initialised as in the prototxt."""
        self.add_module(name, convolution(in_channels, out_channels, kernel_size, groups))
        normalisation = nn.BatchNorm2d(out_channels)
        nn.init.constant_(normalisation.bias, 0.001)
        self.add_module(f"{name}_bn", normalisation)

    def apply_unit(self, name: str, x: Tensor, *, relu: bool = True) -> Tensor:
        """Convolution → batch normalisation → ReLU; H and W stay."""
        x = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))
        return F.relu(x, inplace=True) if relu else x


def check_positive(**numbers: int) -> None:
    """Refuse a number below 1 with a ValueError that names it."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} {number} is not positive")


def central_places(num_stages: int, depth: int) -> list[str]:
    """Where dropout acts: at the `depth` innermost poolings and decoder stages (Bayesian SegNet's prototxts)."""
    stages = range(num_stages - depth + 1, num_stages + 1)
    return [f"{half}{stage}" for half in ("pool", "decoder") for stage in stages if stage > 0]


def convolution(in_channels: int, out_channels: int, kernel_size: int, groups: int = 1) -> nn.Conv2d:
    """A size-preserving convolution with Caffe's `msra` initialisation: N(0, 2 / fan-in), zero bias."""
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups)
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


@register_model("segnet")
class SegNet(SegmentationHourglass):
    """SegNet: VGG16's convolutions, and their mirror image.

    ```text
    (B,   3, 360, 480)                                          logits (B, K, 360, 480)
     conv1_1 conv1_2      64 ──────── 2-bit offsets ────────→  conv1_2_D conv1_1_D
      (B,  64, 180, 240)                                       (B, 64, 180, 240)
       conv2_1 conv2_2   128 ──────── 2-bit offsets ────────→  conv2_2_D conv2_1_D
        (B, 128, 90, 120)                                      (B, 128, 90, 120)
         conv3_1 … 3_3   256 ──────── 2-bit offsets ────────→  conv3_3_D … 3_1_D
          (B, 256, 45, 60)                                     (B, 256, 45, 60)
           conv4_1 … 4_3 512 ──────── 2-bit offsets ────────→  conv4_3_D … 4_1_D
            (B, 512, 23, 30)                                   (B, 512, 23, 30)
             conv5_1 … 5_3 512 ────── 2-bit offsets ────────→  conv5_3_D … 5_1_D
              (B, 512, 12, 15)  ──────── bottleneck ────────────→ ↑
    ```

    A unit is convolution 3×3 → batch normalisation → ReLU; pooling is 2×2 with stride 2 in ceil mode, hence 23
    and 12 rows. The classifier `conv1_1_D` is 3×3, without batch normalisation or ReLU (figure 2; official
    `segnet_train.prototxt`). The encoder's 13 convolutions hold 14,714,688 parameters. Batch normalisation
    has PyTorch's eps 1e-5; the official pass folds with 1e-9.

    Args:
        num_classes: K; 11 for CamVid.
        in_channels: channels of the pictures.
        dropout: in training, behind the three deepest poolings and decoder stages; the benchmark of section 4
            has 0.5 "at the end of deeper convolutional layers".

    Example:
        >>> model = SegNet(num_classes=11)
        >>> model(model.preprocess(torch.zeros(1, 3, 36, 48, dtype=torch.uint8))).shape
        torch.Size([1, 11, 36, 48])
    """

    def __init__(self, num_classes: int = 11, in_channels: int = 3, dropout: float = 0.0) -> None:
        super().__init__(num_classes, in_channels, ENCODER, 3, dropout, central_places(len(ENCODER), 3))
        channels = ENCODER[-1][-1][1]
        for name, out_channels in (unit for stage in DECODER for unit in stage):
            self.add_unit(name, channels, out_channels, kernel_size=3)
            channels = out_channels
        self.conv1_1_D = convolution(channels, num_classes, kernel_size=3)

    def encode(self, x: Tensor) -> tuple[Tensor, list[PoolingOffsets]]:
        """(B, in_channels, H, W) → (B, 512, ⌈H/32⌉, ⌈W/32⌉) and the offsets of the five poolings."""
        kept: list[PoolingOffsets] = []
        return self.encode_stages(x, lambda full, pooled, offsets: kept.append(offsets)), kept

    def decode(self, features: Tensor, kept: Sequence[PoolingOffsets]) -> Tensor:
        """(B, 512, ⌈H/32⌉, ⌈W/32⌉) and the offsets → logits (B, num_classes, H, W)."""
        x = self.drop(f"pool{len(DECODER)}", features)
        for index, (stage, offsets) in enumerate(zip(DECODER, reversed(kept), strict=True)):
            x = self.unpool(x, offsets)
            for name, _ in stage:
                x = self.apply_unit(name, x)
            x = self.drop(f"decoder{len(DECODER) - index}", x)
        return self.conv1_1_D(x)


class BasicEncoder(SegmentationHourglass):
    """The encoder that SegNet-Basic and the decoder variants of Table 1 share.

    ```text
    (B, 3, H, W) → local response normalisation → [conv → batch normalisation → ReLU → pool 2×2] × depth
                 → (B, width, ⌈H/2^depth⌉, ⌈W/2^depth⌉)
    ```

    Args:
        num_classes: K; 11 for CamVid.
        in_channels: channels of the pictures.
        width: channels of every map.
        kernel_size: odd side of the convolutions.
        depth: number of encoder stages.
        local_response_norm: whether the input is normalised across channels first, which the paper calls
            local contrast normalisation; the prototxts leave it optional, the paper's networks have it.
        dropout: in training, behind the two deepest poolings and decoder stages.
    """

    def __init__(
        self,
        num_classes: int = 11,
        in_channels: int = 3,
        width: int = 64,
        kernel_size: int = 7,
        depth: int = 4,
        local_response_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        check_positive(width=width, depth=depth)
        encoder = tuple(((f"conv{stage}", width),) for stage in range(1, depth + 1))
        super().__init__(num_classes, in_channels, encoder, kernel_size, dropout, central_places(depth, 2))
        self.width, self.kernel_size, self.depth = width, kernel_size, depth
        self.local_response_norm = local_response_norm
        self.add_decoder()

    @abstractmethod
    def add_decoder(self) -> None:
        """Make the decoder's layers, once the encoder's are there."""

    def prepared(self, x: Tensor) -> Tensor:
        """The picture, normalised across channels."""
        self.check_input(x)
        return F.local_response_norm(x, size=5, alpha=1e-4, beta=0.75) if self.local_response_norm else x


@register_model("segnet_basic")
class SegNetBasic(BasicEncoder):
    """SegNet-Basic: four stages of 7×7 convolutions, 64 channels throughout; the net of the decoder study.

    ```text
    (B, 3, 360, 480)                                         logits (B, K, 360, 480)
     LRN → conv1 64 ────────── 2-bit offsets ──────────→  conv_decode1 → conv_classifier 1×1
      (B, 64, 180, 240)                                   (B, 64, 180, 240)
       conv2 64 ────────────── 2-bit offsets ──────────→  conv_decode2
        (B, 64, 90, 120)                                  (B, 64, 90, 120)
         conv3 64 ──────────── 2-bit offsets ──────────→  conv_decode3
          (B, 64, 45, 60)                                 (B, 64, 45, 60)
           conv4 64 ────────── 2-bit offsets ──────────→  conv_decode4
            (B, 64, 23, 30)  ─────── bottleneck ─────────────→ ↑
    ```

    An encoder stage is convolution → batch normalisation → ReLU → pooling; a decoder stage is unpooling →
    convolution → batch normalisation, **without ReLU** (section 3.1; `segnet_basic_train.prototxt`).
    1,416,587 parameters at the defaults; Table 1 prints 1.425 M.

    Args: see `BasicEncoder`.
    """

    @property
    def decoder_groups(self) -> int:
        """Groups of the decoder's convolutions."""
        return 1

    def add_decoder(self) -> None:
        """Make the decoder's layers, deepest stage first."""
        for stage in range(self.depth, 0, -1):
            self.add_unit(f"conv_decode{stage}", self.width, self.width, self.kernel_size, groups=self.decoder_groups)
        self.conv_classifier = convolution(self.width, self.num_classes, kernel_size=1)

    def encode(self, x: Tensor) -> tuple[Tensor, Any]:
        """(B, in_channels, H, W) → (B, width, ⌈H/2^depth⌉, ⌈W/2^depth⌉) and the offsets of the poolings."""
        kept: list[PoolingOffsets] = []
        return self.encode_stages(x, lambda full, pooled, offsets: kept.append(offsets)), kept

    def decode(self, features: Tensor, kept: Any) -> Tensor:
        """The deepest map and the offsets → logits (B, num_classes, H, W)."""
        x = self.drop(f"pool{self.depth}", features)
        for stage, offsets in zip(range(self.depth, 0, -1), reversed(kept), strict=True):
            x = self.apply_unit(f"conv_decode{stage}", self.unpool(x, offsets), relu=False)
            x = self.drop(f"decoder{stage}", x)
        return self.conv_classifier(x)


def stored_bytes(model: SegmentationHourglass, height: int, width: int) -> int:
    """The bytes that have to be kept between encoder and decoder for one picture, beside the deepest map.

    Counts the storage of every tensor in what `model.encode` hands to `model.decode`: packed pooling
    offsets, float maps in the model's own type, or nothing. Sizes (a few integers) are not counted. It is
    measured on the tensors that `encode` really makes, on PyTorch's meta device, so that it takes no time.

    Args:
        model: any of the room's models.
        height, width: of the picture, in pixels.
    """
    leaves = tree_leaves(kept_for_decoder(model, height, width))
    return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))


def kept_for_decoder(model: SegmentationHourglass, height: int, width: int) -> Any:
    """What `model.encode` keeps of one picture for `model.decode`, as tensors without storage (meta device)."""
    skeleton = on_meta_device(model)
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        return skeleton.encode(torch.empty(1, model.in_channels, height, width, dtype=dtype, device="meta"))[1]
