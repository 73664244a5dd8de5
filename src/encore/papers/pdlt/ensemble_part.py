"""The part of the recipe that measures theory against ensembles of real networks, and solves for critical points."""

from __future__ import annotations

from encore.base.cards import Claim
from encore.nn.criticality import critical_point
from encore.papers.pdlt.ensemble_claims import FACTORS, EnsembleClaims
from encore.papers.pdlt.ensemble_runs import SCALE_INVARIANT, SLOWLY_FALLING, EnsembleRuns
from encore.papers.pdlt.pictures import PICTURES
from encore.papers.pdlt.scales import HALF_STABLE, EnsembleSettings
from encore.results.parts import Part
from encore.results.performance import Performance, Plan
from encore.results.record import ClaimRecord, exact_record

CRITICAL = {"swish_critical_weights": "swish", "gelu_critical_weights": "gelu"}

_DIGITS = 5e-9
"""Half of the last digit that the book prints."""

_WEIGHTS_PER_SECOND = 5e7
_ENTRIES_PER_SECOND = 3e9


def critical_weights(claim: Claim) -> ClaimRecord:
    """C_W at the half-stable critical point, to the digits that the book prints."""
    assert claim.paper is not None
    point = critical_point(CRITICAL[claim.id])
    return exact_record(
        claim,
        point.weight_variance,
        holds=abs(point.weight_variance - claim.paper.value) < _DIGITS,
        note=(
            f"By quadrature: K* = {point.kernel:.9g}, C_b = {point.bias_variance:.9g}, C_W = "
            f"{point.weight_variance:.9g}; holds if all printed digits agree"
        ),
    )


class EnsemblePart(Part):
    """Critical points, then ensembles claim by claim; each ensemble is a finished step that a resumed run skips."""

    claims = (
        *CRITICAL,
        "relu_fluctuations",
        "residual_relu_fluctuations",
        "ensemble_kernel",
        "four_point_growth",
        "tangent_kernel_mean",
        "tangent_kernel_fluctuations",
        "power_and_exponential",
        "critical_exponents",
    )

    def plan(self, performance: Performance) -> Plan:
        """Counts weights that are drawn and entries of kernels that are multiplied."""
        settings: EnsembleSettings = performance.configuration.ensembles
        runs = EnsembleRuns(performance, settings)
        seconds, networks, memory = 2.0, [], 800 * 2**20
        deep = performance.asks("relu_fluctuations", "ensemble_kernel", "four_point_growth", "critical_exponents")
        for name in (*SCALE_INVARIANT, *SLOWLY_FALLING, *HALF_STABLE) if deep else ():
            depth = settings.depth_of(name)
            for width in settings.widths:
                count = runs.networks(width, depth)
                seconds += count * depth * width**2 / _WEIGHTS_PER_SECOND
                networks.append(f"{name}, width {width}, depth {depth}: {count} networks")
        if performance.asks("tangent_kernel_mean", "tangent_kernel_fluctuations"):
            for width in settings.kernel_widths:
                count = runs.kernel_networks(width, settings.kernel_depth)
                seconds += 2 * 4 * count * settings.kernel_depth * width**3 / _ENTRIES_PER_SECOND
                networks.append(f"tangent kernels of relu and tanh, width {width}: {count} networks each")
        if performance.asks("power_and_exponential"):
            each = settings.law_networks * settings.depth * settings.law_width**2 / _WEIGHTS_PER_SECOND
            seconds += sum(map(len, FACTORS.values())) * each
            networks.append(f"at and off criticality: {settings.law_networks} networks of width {settings.law_width}")
        if performance.asks("residual_relu_fluctuations"):
            for width in settings.residual_widths:
                count = 4 * runs.networks(width, settings.residual_depth)
                seconds += count * settings.residual_depth * width**2 / _WEIGHTS_PER_SECOND
                networks.append(f"with skip connections, width {width}: {count} networks")
        return Plan(
            data=["none: one input of equal numbers"],
            arms=networks,
            seeds=list(performance.seeds[:1]),
            seconds=seconds,
            memory_bytes=memory,
            disk_bytes=2 * 2**20,
            notes=["ensembles are drawn at initialisation; nothing is trained in this part"],
        )

    def perform(self, performance: Performance) -> None:
        """Measure, judge and draw what is asked for."""
        settings: EnsembleSettings = performance.configuration.ensembles
        claims = EnsembleClaims(EnsembleRuns(performance, settings), settings)
        judges = {**dict.fromkeys(CRITICAL, critical_weights), **claims.judges}
        for claim in performance.claims:
            if claim.id in judges:
                performance.record(judges[claim.id](claim))
        for name, (ids, draw) in PICTURES.items():
            if performance.asks(*ids):
                path = performance.path / f"{name}.png"
                performance.picture(path, draw(claims, path))


ENSEMBLE_PART = EnsemblePart()
