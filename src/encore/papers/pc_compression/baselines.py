"""What the circuit is compared with: picture formats, general compressors, and plainer densities."""

from __future__ import annotations

import lzma
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encore.base.errors import InputError
from encore.base.registry import register_model
from encore.nn.model import EncoreModel
from encore.papers.pc_compression.form import OfForm, SampleForm
from encore.papers.pc_compression.structure import Tree

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Rate:
    """What a codec made of a set.

    Attributes:
        num_bytes: of everything it wrote.
        num_values: that were coded.
        encode_seconds, decode_seconds: one picture after the other.
    """

    num_bytes: int
    num_values: int
    encode_seconds: float
    decode_seconds: float

    @property
    def bits_per_dimension(self) -> float:
        """Bits for each value."""
        return 8 * self.num_bytes / self.num_values


def codecs() -> Any:
    """The package imagecodecs.

    Raises:
        InputError: it is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise InputError("other codecs come from imagecodecs", 'pip install "encore-papers[codec]"') from error
    return imagecodecs


def picture_formats() -> dict[str, tuple[Callable[[Bytes], bytes], Callable[[bytes], Bytes]]]:
    """Lossless picture formats at their strongest setting: for each an encoder and a decoder of one picture.

    WebP knows no grey pictures; three equal channels cost it next to nothing. Of PNG the better of its own choice of
    filters and none is taken, as optimisers of PNG do.
    """
    ic = codecs()

    def png(picture: Bytes) -> bytes:
        tried: list[bytes] = [ic.png_encode(picture, level=9), ic.png_encode(picture, level=9, filter=0)]
        return min(tried, key=len)

    def webp(picture: Bytes) -> bytes:
        coloured = np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture
        coded: bytes = ic.webp_encode(coloured, lossless=True, level=100, method=6)
        return coded

    return {
        "png": (png, ic.png_decode),
        "webp": (webp, ic.webp_decode),
        "jpeg2000": (
            lambda one: ic.jpeg2k_encode(one, level=0, reversible=True, codecformat="j2k"),
            ic.jpeg2k_decode,
        ),
        "jpegxl": (lambda one: ic.jpegxl_encode(one, lossless=True, effort=10), ic.jpegxl_decode),
    }


def general_compressors() -> dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    """Compressors of any bytes at their strongest setting, which see the whole set as one string."""
    ic = codecs()
    return {
        "xz": (lambda content: lzma.compress(content, preset=9 | lzma.PRESET_EXTREME), lzma.decompress),
        "zstd": (lambda content: ic.zstd_encode(content, level=22), ic.zstd_decode),
    }


def sheet_of(pictures: Bytes) -> Bytes:
    """(N, H, W[, 3]) → one picture in which they stand side by side, about square, filled up with zeros."""
    N, H, W, *rest = pictures.shape
    columns = math.ceil(math.sqrt(N))
    rows = math.ceil(N / columns)
    full = np.zeros((rows * columns, H, W, *rest), pictures.dtype)
    full[:N] = pictures
    return full.reshape(rows, columns, H, W, *rest).swapaxes(1, 2).reshape(rows * H, columns * W, *rest)


def measure_codecs(pictures: Bytes) -> dict[str, Rate]:
    """The rate of every codec above on a set of pictures, (N, H, W[, 3]) uint8, each decoded and compared.

    Picture formats code each picture for itself; `jpegxl_sheet` codes all as one, at effort 9, since 10 takes minutes.
    """
    rates = {}
    ic = codecs()
    for name, (encode, decode) in picture_formats().items():
        rates[name] = _rate(list(np.ascontiguousarray(pictures)), encode, decode)
        if name == "jpegxl":
            whole = _rate([sheet_of(pictures)], lambda one: ic.jpegxl_encode(one, lossless=True, effort=9), decode)
            rates["jpegxl_sheet"] = replace(whole, num_values=pictures.size)
    content = pictures.tobytes()
    for name, (pack, unpack) in general_compressors().items():
        rates[name] = _rate([content], pack, unpack, pictures.size)
    return rates


def _rate(items: list[Any], encode: Any, decode: Any, num_values: int | None = None) -> Rate:
    start = time.perf_counter()
    coded = [encode(one) for one in items]
    between = time.perf_counter()
    decoded = [decode(one) for one in coded]
    end = time.perf_counter()
    for one, other in zip(items, decoded, strict=True):
        same = one == other if isinstance(one, bytes) else np.array_equal(_as_like(other, one), one)
        if not same:
            raise AssertionError("a codec called lossless changed a value")
    size = num_values or sum(one.size for one in items)
    return Rate(sum(map(len, coded)), size, between - start, end - between)


def _as_like(decoded: Bytes, one: Bytes) -> Bytes:
    """A grey picture that came back with three channels, grey again."""
    if decoded.ndim > one.ndim and (decoded == decoded[..., :1]).all():
        return decoded[..., 0]
    return decoded


PSEUDOCOUNTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Among which `ChowLiuTree` chooses: tables of K² values need far more than a hidden tree's."""


@register_model("chow_liu_tree")
class ChowLiuTree(OfForm, EncoreModel):
    """p(x) = Π p(x_i | x_parent(i)): a tree over the values themselves, without hidden states.

    Args:
        parents: the parent of each of the D variables; -1 at the root.
        num_values: K.
        sample_shape: of a sample; (D,) where it is not said.
        lowest: the value that is category 0.

    Raises:
        ValueError: `parents` are no tree, or the shape has another number of values.
    """

    counts: Tensor
    pseudocount: Tensor

    def __init__(
        self,
        parents: list[int] | tuple[int, ...] = (-1,),
        num_values: int = 256,
        sample_shape: list[int] | None = None,
        lowest: int = 0,
    ) -> None:
        super().__init__()
        self.tree = Tree(np.asarray(parents, np.int64))
        self.num_values = num_values
        self.form = SampleForm(tuple(sample_shape or (len(self.tree),)), num_values, lowest)
        if self.form.num_variables != len(self.tree):
            raise ValueError(f"samples of {sample_shape} have other than {len(self.tree)} values")
        D, K = len(self.tree), num_values
        self.register_buffer("counts", torch.zeros(D, K, K))
        self.register_buffer("pseudocount", torch.tensor(0.1))

    @torch.no_grad()
    def count(self, x: Tensor) -> None:
        """Add samples, categories (N, D), to the counts of (parent's value, own value); the root's parent is at 0."""
        above = self._above(x)
        K = self.num_values
        for variable in range(len(self.tree)):
            pairs = above[:, variable] * K + x[:, variable].long()
            self.counts[variable] += torch.bincount(pairs, minlength=K * K).view(K, K)

    def _above(self, x: Tensor) -> Tensor:
        parents = torch.from_numpy(self.tree.parents)
        above = x.long()[:, parents.clamp(min=0)]
        above[:, self.tree.root] = 0
        return above

    def choose_pseudocount(self, x: Tensor) -> None:
        """The one of a few with which samples (N, D) that were not counted are the most probable."""
        scores = {}
        for value in PSEUDOCOUNTS:
            self.pseudocount.fill_(value)
            scores[value] = float(self.log_likelihood(x).sum())
        self.pseudocount.fill_(max(scores, key=scores.__getitem__))

    @torch.no_grad()
    def log_likelihood(self, x: Tensor) -> Tensor:
        """(N, D) categories → log p in nats, (N,) float64; `pseudocount` is added to each distribution as a whole."""
        above, own = self._above(x), x.long()
        places = torch.arange(len(self.tree))
        added = self.pseudocount.double()
        seen = self.counts[places, above, own].double() + added / self.num_values
        return (seen / (self.counts.sum(2)[places, above].double() + added)).log().sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """See `log_likelihood`."""
        return self.log_likelihood(x)

    def bits(self, samples: Tensor) -> Tensor:
        """(N, *sample_shape) integers → the bits that each ideally takes, (N,) float64."""
        variables = torch.from_numpy(self.form.variables(samples.cpu().numpy()))
        return self.log_likelihood(variables) / -math.log(2)

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Random samples, (num_samples, *sample_shape) int64."""
        x = torch.zeros(num_samples, len(self.tree), dtype=torch.long)
        for variable in self.tree.preorder:
            parent = int(self.tree.parents[variable])
            rows = self.counts[variable][x[:, parent] if parent >= 0 else torch.zeros(num_samples, dtype=torch.long)]
            smoothed = rows + self.pseudocount / self.num_values
            x[:, variable] = torch.multinomial(smoothed, 1, generator=generator)[:, 0]
        return torch.from_numpy(self.form.samples(x.numpy()))
