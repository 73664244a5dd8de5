"""A classifier whose evidence is the distance to learned cases (arXiv 1710.04806, sections 3 and 4).

    x → encoder f → code z (q) ─┬→ decoder g → x̂
                                └→ ‖z - p_j‖² for m prototypes p_j (q) → W, without bias → logits (K)

Whatever f and g are made of, this is what the paper adds to them: prototypes, the loss of four terms, and reasons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.errors import ConfigurationError, DataError
from encore.nn.model import EncoreModel
from encore.tasks.own_ways import Reason

OWN_CLASS, OTHER_CLASS = -1.0, 0.5
"""Where the head begins if prototypes belong to classes: a distance speaks against, so the own class is negative."""


class PrototypeNetwork(EncoreModel):
    """An autoencoder, prototypes in the space of its codes, and a linear layer on the squared distances to them.

    A small distance has to give a large score, so a prototype speaks for the class in whose row of `head.weight` it
    has its smallest (most negative) weight. Subclasses hand over f and g and say in `target` what g is to restore.

    Args:
        encoder: f, (B, …) → codes of q values a sample, of any shape.
        decoder: g, (B, q) → what `target` returns.
        code_size: q.
        num_prototypes: m.
        num_classes: K.
        per_class: every prototype belongs to one class, in turn: the interpretability terms look at samples of that
            class alone, and the head begins with -1 for it and 0.5 for the others (after ProtoPNet, arXiv 1806.10574,
            whose scores are similarities and so have the other sign). The paper has free prototypes.
        class_weight, reconstruction_weight, r1_weight, r2_weight: λ of the four terms; the paper's for MNIST.

    Attributes:
        prototypes: (m, q) float32, learnt.
        head: W, `weight` (K, m).
        owners: (m,) int64, the class of each prototype, with `per_class`; else None.

    Raises:
        ConfigurationError: fewer than one prototype, or with `per_class` fewer than classes; a negative weight.
    """

    owners: Tensor | None

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        code_size: int,
        num_prototypes: int,
        num_classes: int,
        *,
        per_class: bool = False,
        class_weight: float = 20.0,
        reconstruction_weight: float = 1.0,
        r1_weight: float = 1.0,
        r2_weight: float = 1.0,
    ) -> None:
        super().__init__()
        fewest = num_classes if per_class else 1
        if not isinstance(num_prototypes, int) or num_prototypes < fewest:
            raise ConfigurationError(
                f"num_prototypes is {num_prototypes}, at least {fewest} are due",
                "give every class a prototype" if per_class else "compare with one case or more",
            )
        self.weights_of_terms = {
            "class_error": class_weight,
            "reconstruction": reconstruction_weight,
            "r1": r1_weight,
            "r2": r2_weight,
        }
        if not all(0 <= weight < math.inf for weight in self.weights_of_terms.values()):
            raise ConfigurationError(
                "a term of the loss has a negative weight, or one that is not finite", "give 0 to leave a term out"
            )
        self.encoder, self.decoder = encoder, decoder
        self.code_size, self.num_classes = code_size, num_classes
        self.prototypes = nn.Parameter(torch.rand(num_prototypes, code_size))
        self.head = nn.Linear(num_prototypes, num_classes, bias=False)
        owners = torch.arange(num_prototypes) % num_classes if per_class else None
        self.register_buffer("owners", owners)
        with torch.no_grad():
            if owners is None:
                self.head.weight.uniform_(0, 1)
            else:
                self.head.weight.copy_(torch.where(F.one_hot(owners, num_classes).T.bool(), OWN_CLASS, OTHER_CLASS))

    @property
    def num_prototypes(self) -> int:
        """m."""
        return len(self.prototypes)

    def target(self, inputs: Tensor) -> Tensor:
        """What the decoder is to restore of `inputs`; all of it by default."""
        return inputs

    def encode(self, inputs: Tensor) -> Tensor:
        """(B, …), as `forward` takes them → codes (B, q)."""
        codes: Tensor = self.encoder(inputs)
        return codes.flatten(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, q) → (B, …), of the shape that `target` gives."""
        decoded: Tensor = self.decoder(codes)
        return decoded

    def distances(self, codes: Tensor) -> Tensor:
        """Codes (B, q) → squared distances (B, m), from 0 on."""
        return squared_distances(codes, self.prototypes)

    def scores(self, distances: Tensor) -> Tensor:
        """Squared distances (B, m) → logits (B, K), float32 at least, also under autocast.

        Distances and weights are large and of either sign: in half precision their sum would be too coarse.
        """
        if torch.is_autocast_enabled(distances.device.type):
            with torch.autocast(distances.device.type, enabled=False):
                return self.scores(distances)
        return F.linear(distances, self.head.weight.to(distances.dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) → logits (B, K)."""
        return self.scores(self.distances(self.encode(inputs)))

    def own_loss(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The paper's loss of a batch, by terms; minima are taken within the batch.

        Args:
            inputs: (B, …), as `forward` takes them.
            targets: (B, K) float, rows sum to 1.

        Returns:
            Scalars: `class_error`, the mean cross-entropy; `reconstruction`, squared error summed over a sample and
            averaged over samples; `r1`, how far a prototype is from its nearest sample; `r2`, how far a sample is
            from its nearest prototype; and `loss`, their weighted sum.
        """
        codes = self.encode(inputs)
        distances = self.distances(codes)
        terms = {
            "class_error": F.cross_entropy(self.scores(distances), targets),
            "reconstruction": (self.decode(codes) - self.target(inputs)).square().flatten(1).sum(1).mean(),
            **interpretability_terms(distances, targets, self.owners),
        }
        weighted = [self.weights_of_terms[name] * term for name, term in terms.items()]
        loss = torch.stack(weighted).sum()
        return {"loss": loss, **terms}

    @torch.no_grad()
    def reasons(self, inputs: Tensor) -> list[list[Reason]]:
        """Every prototype as a reason for the class of highest score, the nearest first.

        Args:
            inputs: (B, …), as `forward` takes them.
        """
        names = self.classes or tuple(str(index) for index in range(self.num_classes))
        distances = self.distances(self.encode(inputs))
        contributions = distances.unsqueeze(1) * self.head.weight.to(distances.dtype)  # (B, K, m)
        predicted = contributions.sum(2).argmax(1).tolist()
        shown, supported = self.decoded_prototypes().cpu(), self.class_of_prototypes().tolist()
        order = distances.argsort(dim=1).tolist()
        distances, contributions = distances.cpu(), contributions.cpu()
        return [
            [
                Reason(
                    case=case,
                    supports=names[supported[case]],
                    distance=float(distances[row, case]),
                    contribution=float(contributions[row, predicted[row], case]),
                    contributions=dict(zip(names, contributions[row, :, case].tolist(), strict=True)),
                    shown=shown[case],
                )
                for case in cases
            ]
            for row, cases in enumerate(order)
        ]

    @torch.no_grad()
    def decoded_prototypes(self) -> Tensor:
        """What the decoder makes of the prototypes, (m, …)."""
        return self.decode(self.prototypes)

    @torch.no_grad()
    def class_of_prototypes(self) -> Tensor:
        """(m,) int64: the class in whose row of the head a prototype weighs least, which it speaks for."""
        return self.head.weight.argmin(0)

    @torch.no_grad()
    def nearest(self, codes: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of each prototype the nearest of `codes`.

        Args:
            codes: (N, q).
            labels: (N,) int64; with them, a prototype that belongs to a class (`per_class`) looks at that class alone.

        Returns:
            Indices (m,) int64 and squared distances (m,).

        Raises:
            DataError: a class that owns prototypes has no sample.
        """
        distances = squared_distances(self.prototypes, codes)
        if labels is not None and self.owners is not None:
            distances = distances.masked_fill(self.owners.unsqueeze(1) != labels.to(distances.device), torch.inf)
            if distances.amin(1).isinf().any():
                raise DataError("a class that owns prototypes has no sample", "give samples of every class")
        found = distances.min(1)
        return found.indices, found.values

    @torch.no_grad()
    def replace_by_nearest(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make every prototype an encoded sample: its nearest one; the head stays.

        Args:
            codes, labels: as for `nearest`.

        Returns:
            (m,) int64: which of the samples.
        """
        indices, _ = self.nearest(codes, labels)
        self.prototypes.copy_(codes[indices])
        return indices

    def fitting_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Of a network of other classes, prototypes come to belong to the classes of this one."""
        others = "head.weight" in state and state["head.weight"].shape[0] != self.num_classes
        if self.owners is None or not others or "owners" not in state:
            return state
        return {**state, "owners": self.owners}

    @torch.no_grad()
    def prune(self, kept: Sequence[int]) -> None:
        """Keep these prototypes alone, with their weights.

        Raises:
            ConfigurationError: none is kept, or one that there is not; a class loses all that belong to it.
        """
        if not kept or min(kept) < 0 or max(kept) >= self.num_prototypes or len(set(kept)) != len(kept):
            raise ConfigurationError(
                f"prototypes {list(kept)} were to be kept of {self.num_prototypes}",
                f"name one or more of 0…{self.num_prototypes - 1}, each once",
            )
        indices = torch.tensor(list(kept), device=self.prototypes.device)
        if self.owners is not None and len(self.owners[indices].unique()) < self.num_classes:
            raise ConfigurationError(f"with prototypes {list(kept)} alone a class has none", "keep one of every class")
        head = nn.Linear(len(indices), self.num_classes, bias=False).to(self.prototypes)
        head.weight.copy_(self.head.weight[:, indices])
        self.head = head
        self.prototypes = nn.Parameter(self.prototypes[indices].clone())
        if self.owners is not None:
            self.owners = self.owners[indices]
        self._hub_mixin_config = {**self.configuration, "num_prototypes": len(indices)}


def squared_distances(ours: Tensor, others: Tensor) -> Tensor:
    """(A, q) and (B, q) → ‖a - b‖² (A, B), as ‖a‖² + ‖b‖² - 2·a·b, which rounding may not take below 0.

    Half precision would lose small distances between long codes: float32 at least, also under autocast.
    """
    if torch.is_autocast_enabled(ours.device.type):
        with torch.autocast(ours.device.type, enabled=False):
            return squared_distances(ours, others)
    kind = torch.promote_types(ours.dtype, torch.float32)
    ours, others = ours.to(kind), others.to(kind)
    products = ours @ others.T
    return (ours.square().sum(1, keepdim=True) + others.square().sum(1) - 2 * products).clamp(min=0)


def interpretability_terms(distances: Tensor, targets: Tensor, owners: Tensor | None = None) -> dict[str, Tensor]:
    """R1 and R2 (section 4): prototypes lie at samples, and samples at prototypes.

    Args:
        distances: squared, (B, m).
        targets: (B, K); only used with `owners`.
        owners: (m,) int64; with them, prototypes and samples of different classes do not look at each other, and a
            prototype without a sample in the batch, or a sample without a prototype, does not count.
    """
    if owners is None:
        return {"r1": distances.amin(0).mean(), "r2": distances.amin(1).mean()}
    strangers = targets.argmax(1, keepdim=True) != owners
    among_own = distances.masked_fill(strangers, torch.inf)
    terms = {}
    for name, dimension in (("r1", 0), ("r2", 1)):
        nearest, lonely = among_own.amin(dimension), strangers.all(dimension)
        terms[name] = nearest.masked_fill(lonely, 0).sum() / (~lonely).sum().clamp(min=1)
    return terms
