"""Prototypes for pictures (arXiv 1710.04806): the paper's networks, and any backbone in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from encore.base.errors import ConfigurationError, DataError
from encore.base.registry import register_model
from encore.papers.prototypes.autoencoder import (
    BackboneEncoder,
    ConvolutionalEncoder,
    Size,
    TransposedDecoder,
    UpsamplingDecoder,
    halved,
)
from encore.papers.prototypes.prototype_network import PrototypeNetwork

WIDTHS = (32, 32, 32, 10)
"""Maps of the paper's encoder."""


@register_model("prototypes")
class PicturePrototypes(PrototypeNetwork):
    """The paper's network; by default that of MNIST, of 44,153 parameters.

        (B, C, 28, 28) → 4 × conv 3×3, stride 2, ReLU → (B, 10, 2, 2) = z (q = 40)
                       ← 4 × transposed conv, ReLU, sigmoid ←┘
        z → ‖z - p_j‖² (15) → W → logits (10)

    `forward` takes pictures (B, 3, H, W) or (B, C, H, W) in 0…1.

    Args:
        num_classes: K.
        num_prototypes: m.
        image_size: (H, W).
        num_channels: C, 1 or 3, what is encoded and restored; to a grey network RGB is the mean of its channels.
        widths: maps of the encoder, each half as large as the one before.
        encoder: registered name of a backbone, in the place of the paper's convolutions: its smallest map is reduced
            to `widths[-1]` channels, and the decoder doubles it to the size of the picture.
        encoder_arguments: of the backbone (`{"weights": RUN}` for a trained one).
        decoder: `transposed` convolutions as in the paper, or `upsampled`: nearest pixels and a convolution; by
            default the former for the paper's encoder, the latter for a backbone.
        per_class, class_weight, reconstruction_weight, r1_weight, r2_weight: see `PrototypeNetwork`.

    Raises:
        ConfigurationError: an argument that is no such thing.
    """

    def __init__(
        self,
        num_classes: int = 10,
        num_prototypes: int = 15,
        image_size: Sequence[int] = (28, 28),
        num_channels: int = 1,
        widths: Sequence[int] = WIDTHS,
        encoder: str | None = None,
        encoder_arguments: dict[str, Any] | None = None,
        decoder: Literal["transposed", "upsampled"] | None = None,
        per_class: bool = False,
        class_weight: float = 20.0,
        reconstruction_weight: float = 1.0,
        r1_weight: float = 1.0,
        r2_weight: float = 1.0,
    ) -> None:
        size, widths = checked_arguments(image_size, num_channels, widths)
        first, shape = encoder_for(size, num_channels, widths, encoder, encoder_arguments)
        super().__init__(
            first,
            _decoder_for(decoder, encoder is None, size, num_channels, widths, first, shape),
            shape[0] * shape[1] * shape[2],
            num_prototypes,
            num_classes,
            per_class=per_class,
            class_weight=class_weight,
            reconstruction_weight=reconstruction_weight,
            r1_weight=r1_weight,
            r2_weight=r2_weight,
        )
        self.image_size, self.num_channels = size, num_channels

    @property
    def configuration(self) -> dict[str, Any]:
        """The constructor's arguments; a backbone's are those that build it without its weights, which are ours now."""
        return without_weights(super().configuration, self.encoder)

    def target(self, inputs: Tensor) -> Tensor:
        """What is encoded and restored: (B, 1 or 3, H, W) → (B, C, H, W)."""
        return as_channels(inputs, self.num_channels)

    def encode(self, inputs: Tensor) -> Tensor:
        """Pictures (B, 1 or 3, H, W), 0…1 → codes (B, q).

        Raises:
            DataError: pictures of another size.
        """
        check_size(inputs, self.image_size)
        return super().encode(self.target(inputs))


def without_weights(configuration: dict[str, Any], encoder: nn.Module) -> dict[str, Any]:
    """A model's arguments with those of its backbone that need no RUN, no source and no hub."""
    if not isinstance(encoder, BackboneEncoder):
        return configuration
    return {**configuration, "encoder_arguments": encoder.backbone.model.configuration}


def as_channels(pictures: Tensor, num_channels: int) -> Tensor:
    """(B, 1 or 3, H, W) → (B, num_channels, H, W): the mean of the channels, or the grey one repeated."""
    if pictures.shape[1] == num_channels:
        return pictures
    return pictures.mean(1, keepdim=True) if num_channels == 1 else pictures.expand(-1, num_channels, -1, -1)


def check_size(pictures: Tensor, size: Size) -> None:
    """See that pictures have the size that the network was made for.

    Raises:
        DataError: they have not.
    """
    if tuple(pictures.shape[-2:]) != size:
        raise DataError(
            f"pictures of {pictures.shape[-2]} × {pictures.shape[-1]} came where {size[0]} × {size[1]} are due",
            f"make the model with image_size={list(pictures.shape[-2:])}, or resize the pictures",
        )


def encoder_for(
    size: Size, num_channels: int, widths: Sequence[int], name: str | None, arguments: dict[str, Any] | None
) -> tuple[nn.Module, tuple[int, int, int]]:
    """f, and the shape (channels, height, width) of its codes."""
    if name is None:
        if arguments:
            raise ConfigurationError("encoder_arguments came without an encoder", "name one: encoder=resnet18")
        return ConvolutionalEncoder(num_channels, widths), (widths[-1], *halved(size, len(widths)))
    if not isinstance(name, str):
        raise ConfigurationError(f"encoder is {name!r}", "give the name of a registered backbone: encoder=resnet18")
    backbone = BackboneEncoder(name, arguments or {}, widths[-1])
    return backbone, (widths[-1], *backbone.map_size(size))


def _decoder_for(
    kind: str | None,
    papers_encoder: bool,
    size: Size,
    num_channels: int,
    widths: Sequence[int],
    encoder: nn.Module,
    shape: tuple[int, int, int],
) -> nn.Module:
    """g: as many doublings as f has halvings."""
    if isinstance(encoder, BackboneEncoder):
        halvings = encoder.num_halvings
        widths = (*(WIDTHS[0],) * (halvings - 1), widths[-1])
    halvings = len(widths)
    sizes = [*(halved(size, times) for times in range(halvings)), shape[1:]]
    kind = kind or ("transposed" if papers_encoder else "upsampled")
    if kind == "upsampled":
        return UpsamplingDecoder((num_channels, *widths), sizes)
    if kind != "transposed":
        raise ConfigurationError(f"decoder is '{kind}'", "choose transposed or upsampled")
    if shape[1:] != halved(size, halvings):
        raise ConfigurationError(
            f"this encoder makes a map of {shape[1]} × {shape[2]} of {size[0]} × {size[1]}, which is not halved "
            f"{halvings} times",
            "choose decoder=upsampled",
        )
    return TransposedDecoder((num_channels, *widths), sizes)


def checked_arguments(
    image_size: Sequence[int], num_channels: int, widths: Sequence[int]
) -> tuple[Size, tuple[int, ...]]:
    if len(image_size) != 2 or min(image_size) < 1:
        raise ConfigurationError(f"image_size is {list(image_size)}", "give [height, width], 1 at least")
    if num_channels not in (1, 3):
        raise ConfigurationError(f"num_channels is {num_channels}", "give 1 for grey pictures, 3 for RGB")
    if not widths or not all(isinstance(width, int) and width > 0 for width in widths):
        raise ConfigurationError(f"widths is {list(widths)}", "give the channels of one map or more")
    return (int(image_size[0]), int(image_size[1])), tuple(widths)
