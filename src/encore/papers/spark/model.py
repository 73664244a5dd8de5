"""SparK (Tian and others; arXiv 2301.03580, ICLR 2023): masked pre-training for any convnet.

Six tenths of a picture are hidden cell by cell, the convnet encodes the visible cells as if its convolutions were
sparse, a light U-Net decoder fills the holes at every scale, and the hidden cells' normalised pixels are regressed.
What remains afterwards is the plain convnet, `encoder_model()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import log2
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from encore.base.errors import ConfigurationError, InputError, UnknownNameError
from encore.base.registry import register_model
from encore.nn.creation import create_model
from encore.nn.model import EncoreModel, FeatureInfo
from encore.papers.spark.cells import VisibleCells
from encore.papers.spark.decoder import Densify, LightDecoder
from encore.papers.spark.packed import pack, packed_view, unpack
from encore.papers.spark.sparse import hide, masked_view
from encore.papers.spark.survey import survey
from encore.papers.spark.targets import from_patches, patch_statistics, to_patches

Encoding = Literal["packed", "masked", "zero_out"]


@register_model("spark")
class SparK(EncoreModel):
    """A convnet, and what pre-trains it.

    ```text
    picture (B, 3, H, W), 60 % of its s×s cells hidden
      └─ backbone, sparse: (B, C_1, H/4, W/4) … (B, C_k, H/s, W/s), holes where hidden
           └─ densify: norm → mask token in the holes → conv → width, width/2, width/4 … at the strides s, s/2, s/4 …
                └─ decoder: log2(s) blocks, each doubling the size; the dense map of its stride is added first
                     └─ 1×1 conv → picture (B, 3, H, W);  loss = squared error of the hidden cells' normalised pixels
    ```

    A cell is as wide as the backbone's total stride s: 32 for most. Feature maps at strides that the decoder lacks
    (it has s, s/2 … 2) are not decoded from.

    Encodings: `packed` computes on the visible cells alone; `masked` is the official form, dense operators with a
    mask, equal up to rounding and slower; `zero_out` is the paper's ablation, the ordinary network on the picture
    with hidden cells set to zero, whose batch normalisation sees everything. Batch normalisation of the encoder and
    `densify` sees visible positions only in the first two.

    Args:
        backbone: any registered convnet with feature maps (`resnet50`, `convnext_small`, `hornet_tiny_7x7`,
            `segnet` …).
        backbone_arguments: its own arguments, such as `drop_path`.
        image_size: side or (height, width) of the pictures, a multiple of s.
        mask_ratio: share of hidden cells.
        width: channels of the decoder at its smallest map, divisible by s.
        hierarchy: how many maps are decoded from, smallest first; True for all, False for the smallest alone.
        encoding: how the encoder leaves hidden cells out.
        densify_norm: normalisation before the holes are filled, `bn` or `ln`; `auto` takes what the backbone has.

    Raises:
        ValueError: sizes that do not divide, or a ratio that hides all cells or none.
        InputError: the backbone hands out no maps, attends, or has layers that `encoding` has no form for.

    Example:
        >>> model = SparK("hornet_tiny_7x7", image_size=64)
        >>> model(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([])
    """

    beyond_features = ("decoder", "densify")

    def __init__(
        self,
        backbone: str = "resnet50",
        backbone_arguments: Mapping[str, Any] | None = None,
        image_size: int | tuple[int, int] = 224,
        mask_ratio: float = 0.6,
        width: int = 768,
        hierarchy: bool | int = True,
        encoding: Encoding = "packed",
        densify_norm: Literal["auto", "bn", "ln"] = "auto",
    ) -> None:
        super().__init__()
        _check_choice("encoding", encoding, ("packed", "masked", "zero_out"))
        _check_choice("densify_norm", densify_norm, ("auto", "bn", "ln"))
        self.backbone, self.backbone_arguments = backbone, dict(backbone_arguments or {})
        self.encoding, self.mask_ratio = encoding, mask_ratio
        extractor = _made(backbone, self.backbone_arguments, features_only=True)
        self.encoder: EncoreModel = extractor.model
        self.feature_info: list[FeatureInfo] = extractor.feature_info
        self.in_channels: int = getattr(self.encoder, "in_channels", 3)
        self.cell = self.feature_info[-1].reduction
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
        self.preprocessing = replace(extractor.preprocessing, size=self.image_size)
        if 2 ** round(log2(self.cell)) != self.cell or self.cell == 1:
            raise ValueError(f"the total stride {self.cell} of {backbone} is no power of two above 1")
        if any(side < self.cell or side % self.cell for side in self.image_size):
            raise ValueError(f"image_size {self.image_size} is no multiple of {backbone}'s stride {self.cell}")
        self.num_visible_of(self.grid_of(*self.image_size))
        found = survey(self.encoder, self.feature_info, self.in_channels) if encoding != "zero_out" else None
        if encoding == "masked" and found is not None and found.averaging:
            raise InputError(
                f"'{found.averaging[0]}' of {backbone} averages over a map without a pooling layer, which masks miss",
                "use encoding='packed'",
            )
        self._mixing = found.mixing if found is not None else ()
        self._add_decoder(width, hierarchy, densify_norm)

    @property
    def configuration(self) -> dict[str, Any]:
        """The constructor's arguments; the backbone's are those that build it without a hub or its weights."""
        return {**super().configuration, "backbone_arguments": self.encoder.configuration}

    def _add_decoder(self, width: int, hierarchy: bool | int, norm: str) -> None:
        num_blocks = round(log2(self.cell))
        places = {2 ** (num_blocks - place): place for place in range(num_blocks)}  # of the blocks, by stride
        usable = [index for index, info in reversed(list(enumerate(self.feature_info))) if info.reduction in places]
        num_scales = {True: len(usable), False: 1}[hierarchy] if isinstance(hierarchy, bool) else hierarchy
        if not 1 <= num_scales <= len(usable):
            raise ValueError(f"hierarchy {hierarchy} asks for another number of scales than 1…{len(usable)}")
        if norm == "auto":
            norm = "bn" if any(isinstance(module, _BatchNorm) for module in self.encoder.modules()) else "ln"
        self._scales = [(index, places[self.feature_info[index].reduction]) for index in usable[:num_scales]]
        self.decoder = LightDecoder(width, num_blocks, self.in_channels)
        self.densify = nn.ModuleList(
            Densify(
                self.feature_info[index].num_channels,
                width // 2**place,
                "bn" if norm == "bn" else "ln",
                smallest=place == 0,
            )
            for index, place in self._scales
        )

    def encoder_model(self) -> EncoreModel:
        """The plain backbone as it is now, on the CPU: a copy that knows nothing of masks, to be saved and fine-tuned.

        It classifies nothing where the backbone can be made so; parts that the encoder does not have are new.
        """
        model: EncoreModel = _made(self.backbone, self.backbone_arguments)
        model.load_state_dict(self.encoder.state_dict(), strict=False)
        return model.eval()

    def forward_features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the plain backbone's maps, nothing hidden."""
        maps: list[Tensor] = self.encoder.forward_features(images)  # type: ignore[operator]
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), nothing hidden → the mean of the plain backbone's smallest map, (B, C_k)."""
        return self.forward_features(images)[-1].mean((2, 3))

    # Masks.

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(f_h, f_w), the cells of a picture."""
        return height // self.cell, width // self.cell

    def num_visible_of(self, grid: tuple[int, int]) -> int:
        """How many cells of a grid stay visible: round(f_h·f_w·(1 - mask_ratio)).

        Raises:
            ValueError: all of them, or none.
        """
        num_cells = grid[0] * grid[1]
        visible = round(num_cells * (1 - self.mask_ratio))
        if not 0 < visible < num_cells:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} leaves {visible} of {num_cells} cells visible; some have to "
                "be, others hidden"
            )
        return visible

    def draw_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Choose visible cells at random, as many for every sample.

        Args:
            batch: B.
            generator: of the CPU; PyTorch's own by default.

        Returns:
            (B, 1, f_h, f_w) bool on the CPU, true where visible.
        """
        return self._drawn(batch, self.grid_of(*self.image_size), generator)

    def _drawn(self, batch: int, grid: tuple[int, int], generator: torch.Generator | None) -> Tensor:
        num_cells, visible = grid[0] * grid[1], self.num_visible_of(grid)
        chosen = torch.rand(batch, num_cells, generator=generator, device="cpu").argsort(1)[:, :visible]
        active = torch.zeros(batch, num_cells, dtype=torch.bool, device="cpu").scatter_(1, chosen, True)
        return active.view(batch, 1, *grid)

    def _cells(self, images: Tensor, active: Tensor | None, generator: torch.Generator | None = None) -> VisibleCells:
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise InputError(
                f"a tensor of shape {tuple(images.shape)} came where SparK takes (B, {self.in_channels}, H, W)",
                f"give batches of pictures with {self.in_channels} channels: model.preprocess(images)",
            )
        batch, (height, width) = len(images), images.shape[2:]
        if height < self.cell or width < self.cell or height % self.cell or width % self.cell:
            raise InputError(
                f"pictures of {height}×{width} cannot be cut into cells of {self.cell}×{self.cell}",
                f"give pictures whose sides are multiples of {self.cell}: model.preprocess(images)",
            )
        grid = self.grid_of(height, width)
        if active is None:
            active = self._drawn(batch, grid, generator)
        if tuple(active.shape) != (batch, 1, *grid) or active.dtype != torch.bool:
            raise InputError(
                f"a mask of shape {tuple(active.shape)} and type {active.dtype} came where "
                f"{(batch, 1, *grid)} and torch.bool are due",
                "use model.draw_mask",
            )
        return VisibleCells(active.to(images.device))

    def masked(self, images: Tensor, active: Tensor) -> Tensor:
        """(B, 3, H, W) with hidden cells set to zero, the mean colour."""
        return hide(images, self._cells(images, active))

    # Encoder and decoder.

    def encode(self, images: Tensor, active: Tensor) -> list[Tensor]:
        """Encode what is visible.

        Args:
            images: (B, 3, H, W), preprocessed.
            active: (B, 1, f_h, f_w) bool, true where visible.

        Returns:
            The backbone's maps, largest first, (B, C_i, H/r_i, W/r_i); zero where hidden.

        Raises:
            InputError: shapes that do not fit, or, packed, samples that see different numbers of cells.
        """
        cells = self._cells(images, active)
        maps = self._encoded(images, cells)
        return [unpack(one, cells) if self.encoding == "packed" else hide(one, cells) for one in maps]

    def _encoded(self, images: Tensor, cells: VisibleCells) -> list[Tensor]:
        """The maps in the form in which they come: packed, masked, or of the whole network."""
        if self.encoding == "packed":
            view: Any = packed_view(self.encoder, cells, self._mixing)
            inputs = pack(images, cells)
        else:
            view = masked_view(self.encoder, cells, self._mixing) if self.encoding == "masked" else self.encoder
            inputs = hide(images, cells)
        maps: list[Tensor] = view.forward_features(inputs)
        return maps

    def _painted(self, images: Tensor, cells: VisibleCells) -> Tensor:
        """The decoder's picture, (B, 3, H, W), in normalised pixels."""
        maps = self._encoded(images, cells)
        to_decode: list[Tensor | None] = [None] * len(self.decoder.blocks)
        # what is unpacked lies channels last; the decoder works in the layout of the pictures and its weights
        layout = torch.contiguous_format if images.is_contiguous() else torch.channels_last
        for densify, (index, place) in zip(self.densify, self._scales, strict=True):
            norm: Any = densify.norm
            if self.encoding == "packed":
                normalised = unpack(norm(maps[index]), cells)
            else:
                normalised = (masked_view(norm, cells) if self.encoding == "masked" else norm)(maps[index])
            side = self.cell // self.feature_info[index].reduction
            to_decode[place] = densify(normalised.contiguous(memory_format=layout), cells.mask(side))
        painted: Tensor = self.decoder(to_decode)
        return painted

    def forward(self, images: Tensor, active: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The pretext loss (section 3.3; official `forward`).

        Pixels are normalised cell by cell, all channels together: (x - mean) / √(var + 1e-6), with the unbiased
        variance. The loss is the squared error, averaged over the pixels of a cell and then over hidden cells.

        Args:
            images: (B, 3, H, W), preprocessed.
            active: (B, 1, f_h, f_w) bool, true where visible; drawn if None.
            generator: of the CPU, to draw it with.

        Returns:
            A scalar, float32 whatever the precision of the network.

        Raises:
            InputError: shapes that do not fit.
        """
        cells = self._cells(images, active, generator)
        predicted = to_patches(self._painted(images, cells).float(), self.cell)
        patches = to_patches(images.float(), self.cell)
        mean, deviation = patch_statistics(patches)
        errors = (predicted - (patches - mean) / deviation).square().mean(-1)
        hidden = ~cells.active.flatten(1)
        return (errors * hidden).sum() / (hidden.sum() + 1e-8)

    def predict_patches(self, images: Tensor, active: Tensor) -> Tensor:
        """The decoder's normalised pixels of every cell, (B, f_h·f_w, s²·3), channels last within a pixel."""
        return to_patches(self._painted(images, self._cells(images, active)).float(), self.cell)

    def reconstruct(self, images: Tensor, active: Tensor) -> Tensor:
        """Paint the hidden cells.

        Predictions are brought back with the mean and deviation of the cell that is hidden, as the authors' pictures
        do: structure is the network's, brightness and contrast are the truth's.

        Args:
            images: (B, 3, H, W), preprocessed.
            active: (B, 1, f_h, f_w) bool, true where visible.

        Returns:
            (B, 3, H, W) float32 in the domain of `images`; visible cells as they are.
        """
        patches = to_patches(images.float(), self.cell)
        mean, deviation = patch_statistics(patches)
        painted = self.predict_patches(images, active) * deviation + mean
        visible = active.to(images.device).flatten(1).unsqueeze(-1)
        return from_patches(
            torch.where(visible, patches, painted), self.cell, self.grid_of(*images.shape[2:]), self.in_channels
        )


def _made(backbone: str, arguments: Mapping[str, Any], features_only: bool = False) -> Any:
    """The backbone without classes, where it can be made so."""
    if "num_classes" not in arguments:
        try:
            return create_model(backbone, features_only=features_only, num_classes=0, **arguments)
        except ConfigurationError:
            pass  # it has to have classes, or its arguments are wrong, which is said below
        except UnknownNameError as error:
            if error.name != "num_classes":
                raise
    return create_model(backbone, features_only=features_only, **arguments)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} '{value}' is none of {', '.join(choices)}")
