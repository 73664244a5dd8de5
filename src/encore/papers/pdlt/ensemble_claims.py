"""The claims that ensembles of real networks are judged on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from encore.base.cards import Claim
from encore.nn.criticality import critical_point
from encore.papers.pdlt.depth_laws import (
    MOST_EXACT,
    MOST_GROWTH,
    exact_range,
    expand_layers,
    extrapolated,
    first_correction,
    law_of,
    measured_exponent,
)
from encore.papers.pdlt.ensemble_runs import (
    SCALE_INVARIANT,
    SLOWLY_FALLING,
    EnsembleRuns,
    critical_setting,
    tangent_rates,
)
from encore.papers.pdlt.exact import scale_invariant_vertex
from encore.papers.pdlt.fits import Agreement, agreement, expand
from encore.papers.pdlt.recursions import Layer
from encore.papers.pdlt.residual import vertices
from encore.papers.pdlt.scales import HALF_STABLE, EnsembleSettings
from encore.papers.pdlt.statistics import Estimate
from encore.results.record import ClaimRecord, exact_record

SKIP = math.sqrt(0.5)

FINITE_DEPTH, BLURRED = 0.1, 0.15
"""What a finite depth may take from an exponent, and the standard error up to which one is judged."""

DEEP = 30
"""Layers from which exponents are judged."""

TELLING = 0.2
"""The normalised vertex at which its growth is read off: large enough to be growth, small enough to be sharp."""

ELSEWHERE = (0.1, 0.4)
"""Where else it is read off, to show what this choice does."""

SHARP = 0.03
"""The relative standard error up to which a slope is judged."""

TOLD = 3.0
"""Standard errors from which a first correction is told from none."""

FACTORS = {"linear": (0.75, 1.0, 1.25), "relu": (0.75, 1.0, 1.25), "tanh": (0.75, 1.0), "sin": (0.75, 1.0)}
"""Weight variances, over the critical one, at which laws are looked at."""


Compared = dict[str, tuple[Estimate, Tensor]]
"""Measured and predicted, by the name of the series."""


class EnsembleClaims:
    """Measures and judges; each method answers one claim of the card.

    Args:
        runs: the ensembles.
        settings: their sizes.
    """

    def __init__(self, runs: EnsembleRuns, settings: EnsembleSettings) -> None:
        self.runs, self.settings = runs, settings

    @property
    def judges(self) -> dict[str, Callable[[Claim], ClaimRecord]]:
        """By claim."""
        return {
            "relu_fluctuations": self.relu_fluctuations,
            "residual_relu_fluctuations": self.residual_relu_fluctuations,
            "ensemble_kernel": self.ensemble_kernel,
            "four_point_growth": self.four_point_growth,
            "tangent_kernel_mean": self.tangent_kernel_mean,
            "tangent_kernel_fluctuations": self.tangent_kernel_fluctuations,
            "power_and_exponential": self.power_and_exponential,
            "critical_exponents": self.critical_exponents,
        }

    def ensemble_kernel(self, claim: Claim) -> ClaimRecord:
        """E[z²] against K + G{1}/n: both coefficients of the expansion in 1/n; exact for scale-invariant σ."""
        compared: Compared = {}
        for name in SCALE_INVARIANT:
            for width, layers, found in exact_range(self.runs, self.settings, name, "metric"):
                theory = torch.full((len(layers),), critical_setting(name).first_kernel, dtype=torch.float64)
                compared[f"{name}, width {width}"] = found, theory
        for name in (*SLOWLY_FALLING, *HALF_STABLE):
            layers, (first, second) = extrapolated(self.runs, self.settings, name, "metric")
            due = _of(critical_setting(name).theory(self.settings.depth_of(name)), layers)
            compared[f"K of {name}"] = first, due("K")
            compared[f"G1 of {name}"] = second, due("G1")
        held: Compared = {}
        signal = 0.0
        for name in SLOWLY_FALLING:
            layers, found = first_correction(self.runs, self.settings, name)
            held[name] = found, _of(critical_setting(name).theory(self.settings.depth_of(name)), layers)("G1")
            signal = max(signal, float((found.value / found.error).abs().max()))
        alone = agreement(held)
        note = (
            f"{_LAW_NOTE}. {_EXPANSION_NOTE}. "
            "Beside a free first coefficient G1 is hardly told from 0; with K held, G1 of "
            f"{_listed(SLOWLY_FALLING)} deviates by up to {alone.largest:.2f} of {alone.allowed:.2f} allowed, at "
            f"standard errors of {alone.precision}, and is told from 0 by up to {signal:.1f} of them. The claim holds "
            f"if this does too, and is open where G1 is told from 0 by less than {TOLD:g}. Of G1 of GELU ensembles of "
            "these sizes say nothing"
        )
        record = self._agreed(claim, agreement(compared), "E[z²]", note)
        if record.holds and not (alone.holds and signal >= TOLD):
            return record.model_copy(update={"holds": None if alone.holds else False})
        return record

    def four_point_growth(self, claim: Claim) -> ClaimRecord:
        """The four-point vertex: exact in n for scale-invariant σ, extrapolated to 1/n → 0 for the others."""
        compared: Compared = {}
        quantities = ("vertex", "metric_variance")
        for quantity in quantities:
            for name in SCALE_INVARIANT:
                setting = critical_setting(name)
                for width, layers, found in exact_range(self.runs, self.settings, name, quantity):
                    exact = [scale_invariant_vertex(setting.growth, layer, width) for layer in layers]
                    theory = setting.first_kernel**2 * torch.tensor(exact, dtype=torch.float64)
                    compared[f"{quantity} of {name}, width {width}"] = found, theory
            for name in (*SLOWLY_FALLING, *HALF_STABLE):
                layers, (first, _) = extrapolated(self.runs, self.settings, name, quantity)
                theory = _of(critical_setting(name).theory(self.settings.depth_of(name)), layers)("V")
                compared[f"{quantity} of {name}"] = first, theory
        note = (
            "Measured both as the connected four-point function of different neurons and as the variance of the "
            "metric, which are equal for Gaussian weights. Linear and ReLU are compared with the law that is exact "
            f"at every width, up to a normalised vertex of {MOST_EXACT}: beyond, averages over networks are ruled "
            f"by a few. {_LAW_NOTE}. {_EXPANSION_NOTE}"
        )
        return self._agreed(claim, agreement(compared), "V", note)

    # tangent kernels

    def _kernels(self, quantities: Sequence[str]) -> Compared:
        compared: Compared = {}
        depth = self.settings.kernel_depth
        for name in ("relu", "tanh"):
            setting = critical_setting(name)
            theory = setting.theory(depth, tangent_rates(name, depth))
            for quantity in quantities:
                measured = {width: self.runs.kernels(name, width)[quantity] for width in self.settings.kernel_widths}
                layers, (first, _) = expand_layers(measured, setting.growth, depth)
                due = _of(theory, layers)("theta" if quantity == "mean" else quantity)
                compared[f"{quantity} of {name}"] = first, due
        return compared

    def tangent_kernel_mean(self, claim: Claim) -> ClaimRecord:
        """E[Ĥ] at 1/n → 0 against the frozen kernel Θ."""
        return self._agreed(claim, agreement(self._kernels(["mean"])), "E[Ĥ]", _EXPANSION_NOTE)

    def tangent_kernel_fluctuations(self, claim: Claim) -> ClaimRecord:
        """A, B, D and F at 1/n → 0."""
        return self._agreed(claim, agreement(self._kernels(["A", "B", "D", "F"])), "A, B, D and F", _EXPANSION_NOTE)

    # slopes

    def relu_fluctuations(self, claim: Claim) -> ClaimRecord:
        """ν from one layer of each width, through the law that is exact in n; linear beside it."""
        relu, linear = (self._measured_growth(name, TELLING) for name in ("relu", "linear"))
        elsewhere = [self._measured_growth("relu", telling) for telling in ELSEWHERE]
        recursion = critical_setting("relu").theory(6)
        slope = (recursion[5].V - recursion[4].V) / recursion[5].K ** 2
        value, error = relu.value, relu.error
        return _judged(
            claim,
            value,
            holds=abs(value - 5) <= 1.96 * error,
            undecided=error > SHARP * value,
            baselines={"linear": linear.value},
            note=(
                f"Measured on ensembles of real networks: ν in V/(nK²) = (1 + ν/n)^(ℓ−1) − 1, which is exact at every "
                f"width, is {value:.3f} ± {error:.3f} for ReLU and {linear.value:.3f} ± {linear.error:.3f} for linear "
                f"(standard errors; holds if 5 lies within 1.96 of them, open if they are above "
                f"{100 * SHARP:.0f} %). Read off where V/(nK²) is nearest {TELLING} ({relu.layers}), widths weighted "
                f"by networks; nearest {_listed(ELSEWHERE)} it would be "
                f"{_listed(f'{one.value:.3f} ± {one.error:.3f}' for one in elsewhere)}. The recursion gives "
                f"{slope:.12g}"
            ),
        )

    def _measured_growth(self, name: str, telling: float) -> _Growth:
        """ν: in each width from the layer where V/(nK²) is nearest `telling`, widths weighted by networks."""
        setting, depth = critical_setting(name), self.settings.depth_of(name)
        mean, variance, total, words = 0.0, 0.0, 0, []
        for width, layers, found in exact_range(self.runs, self.settings, name, "metric_variance"):
            ratios = [scale_invariant_vertex(setting.growth, one, width) / width for one in layers]
            best = min(range(len(layers)), key=lambda place: abs(ratios[place] - telling))
            scale = width * setting.first_kernel**2
            vertex, error = float(found.value[best]) / scale, float(found.error[best]) / scale
            power, networks = 1 / (layers[best] - 1), self.runs.networks(width, depth)
            mean += networks * width * ((1 + vertex) ** power - 1)
            variance += (networks * width * power * (1 + vertex) ** (power - 1) * error) ** 2
            total += networks
            words.append(f"{layers[best]} of width {width}")
        return _Growth(mean / total, math.sqrt(variance) / total, f"layers {', '.join(words)}")

    def residual_relu_fluctuations(self, claim: Claim) -> ClaimRecord:
        """The mean slope of V/K² over the first layers, at 1/n → 0, with skip connections of γ² = ½."""
        depth = self.settings.residual_depth
        measured = {
            width: self.runs.residual("relu", width, depth, SKIP)["vertex"] for width in self.settings.residual_widths
        }
        first = expand(measured, 2).coefficients[0]
        value, error = float(first.value[-1]) / (depth - 1), float(first.error[-1]) / (depth - 1)
        theory = vertices(critical_setting("relu").activation, depth, weight_variance=1.0, skip=SKIP)[-1]
        book, corrected = theory.book_vertex / (depth - 1), theory.V / (depth - 1)
        return _judged(
            claim,
            value,
            holds=abs(value - book) <= 1.96 * error,
            undecided=2 * 1.96 * error > corrected - book,
            note=(
                f"V/K² per layer over layers 2–{depth}, ensembles of real networks of widths "
                f"{', '.join(str(width) for width in measured)} extrapolated to 1/n → 0: {value:.2f} ± {error:.2f}. "
                f"The book's recursion gives {book:.4g}. It leaves out E[z_i²z_j], which vanishes without skip "
                "connections and for odd activations, but not for a ReLU with skips; with it the recursion gives "
                f"{corrected:.4g}"
            ),
        )

    # laws of depth

    def power_and_exponential(self, claim: Claim) -> ClaimRecord:
        """How many settings follow the law that criticality predicts."""
        right, words = 0, []
        total = sum(len(factors) for factors in FACTORS.values())
        for name, factors in FACTORS.items():
            for factor in factors:
                found = self.runs.law(name, factor, self.settings.depth)["metric"].value
                law, shown = law_of(found)
                due = "power" if factor == 1 else "exponential"
                right += law == due
                words.append(f"{name} at {factor:g} of critical: {shown}" + ("" if law == due else f" (due: {due})"))
        return exact_record(
            claim,
            right,
            holds=right == total,
            note=(
                f"Mean square of preactivations of {self.settings.law_networks} networks of width "
                f"{self.settings.law_width}, from a third of {self.settings.depth} layers on; of {total} settings. "
                + "; ".join(words)
            ),
        )

    def critical_exponents(self, claim: Claim) -> ClaimRecord:
        """The largest distance of measured exponents of K and V from those of their universality class."""
        largest, holds, blurred, words = 0.0, True, False, []
        for name in (*SCALE_INVARIANT, *SLOWLY_FALLING):
            power = critical_point(name).exponents["p_0"]
            due = {"metric": power, "metric_variance": 2 * power - 1}  # scaling law (5.129)
            for quantity, exponent in due.items():
                found = measured_exponent(self.runs, self.settings, name, quantity)
                largest = max(largest, abs(found.value - exponent))
                holds &= abs(found.value - exponent) <= FINITE_DEPTH + 1.96 * found.error
                blurred |= found.error > BLURRED
                symbol = "p_0" if quantity == "metric" else "p_V"
                words.append(
                    f"{name} {symbol} {found.value:+.3f} ± {found.error:.3f} ({exponent:+g}; the recursion over the "
                    f"same layers {found.layers}: {found.predicted:+.3f})"
                )
        return _judged(
            claim,
            largest,
            holds=holds,
            undecided=blurred or self.settings.depth < DEEP,
            note=(
                f"Fits to ensembles of width {self.settings.widths[-1]}, with standard errors; in brackets the class's "
                f"exponent, and what infinitely wide networks show in these layers; holds if each lies within "
                f"{FINITE_DEPTH} (exponents are limits of large depth) and 1.96 standard errors, open below {DEEP} "
                f"layers or with an error above {BLURRED}: {'; '.join(words)}"
            ),
        )

    def _agreed(self, claim: Claim, found: Agreement, what: str, note: str) -> ClaimRecord:
        return exact_record(
            claim,
            found.largest,
            holds=found.holds,
            note=(
                f"Largest of {found.points} deviations of {what} from theory, in standard errors ({found.where}); "
                f"holds up to {found.allowed:.2f}, which the largest of so many exceeds once in a hundred by chance. "
                f"Standard errors are {found.precision}. {note}"
            ),
        )


@dataclass(frozen=True)
class _Growth:
    """ν, its standard error, and the layers that it was read off at."""

    value: float
    error: float
    layers: str


def _listed(parts: Iterable[object]) -> str:
    return " and ".join(map(str, parts))


def _judged(
    claim: Claim,
    measured: float,
    *,
    holds: bool,
    undecided: bool,
    note: str,
    baselines: Mapping[str, float] | None = None,
) -> ClaimRecord:
    """The record of an exact claim that is open where the ensembles are too small to tell."""
    record = exact_record(claim, measured, holds=holds, baselines=baselines, note=note)
    return record.model_copy(update={"holds": None}) if undecided else record


_LAW_NOTE = (
    "Standard errors of linear and ReLU are those that the law itself gives: a sample that has not met the few "
    "largest networks shows too small ones"
)

_EXPANSION_NOTE = (
    f"Where only the first order is known, ensembles of all widths with ν·ℓ/n up to {MOST_GROWTH} are fitted by a "
    "quadratic in 1/n, and its coefficients are compared"
)


def _of(theory: list[Layer], layers: list[int]) -> Callable[[str], Tensor]:
    """A tensor of the theory at these layers, by name."""
    return lambda name: torch.tensor([getattr(theory[layer - 1], name) for layer in layers], dtype=torch.float64)
