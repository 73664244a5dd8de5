"""Critical initialisation of any network of linear and convolutional layers, and learning rates for each layer.

    >>> report = critical_init_(model)      # in place; says what it did
    >>> optimizer = torch.optim.SGD(learning_rates(model, lr=0.1))

Source: The Principles of Deep Learning Theory (arXiv 2106.10165): chapter 5, section 9.4, appendix B; equation numbers
are of the preprint of June 2021.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from encore.base.errors import InputError
from encore.nn.activations import Activation, as_activation
from encore.nn.critical_report import Initialisation, InitialisedLayer
from encore.nn.criticality import ActivationLike, CriticalityError, CriticalPoint, critical_point
from encore.nn.layer_graph import TraceError, chain, layer_graph
from encore.nn.layer_inventory import Skipped
from encore.nn.layer_uses import LayerGraph, LayerUse, Sum

IdentitySkips = Literal["refuse", "shrink"]


class InitialisationError(InputError):
    """A network that the theory cannot initialise; nothing has been changed."""


def critical_init_(
    model: nn.Module,
    activation: ActivationLike | None = None,
    *,
    input_second_moment: float = 1.0,
    residual_gain: float | None = None,
    identity_skips: IdentitySkips = "refuse",
    skip: Skipped = (),
    as_chain: bool = False,
    generator: torch.Generator | None = None,
) -> Initialisation:
    """Draw all weights and biases of a network anew, so that signals and gradients keep their size through its depth.

    Weights become N(0, C_W/fan_in), biases N(0, C_b), with the critical (C_W, C_b) of the activation that feeds the
    layer. Behind a plain layer, without an activation between, C_W = 1. The first layer takes the values of the
    activation behind it; for half-stable activations (GELU, SWISH) its C_W is such that the first kernel is K*. Where a
    skip connection γz meets a branch ξf(z), the branch's last layer has C_W (1 − γ²)/ξ² (B.20, B.45); where two layers
    are added, each has half. Frozen layers are drawn anew as well, with a note.

    Args:
        model: of Linear and Conv1d/2d/3d layers, elementwise activations, shapes, pooling and sums; anything else is
            refused unless named in `skip`.
        activation: σ, where the network's own is not to be used; with `as_chain`, where it cannot be seen.
        input_second_moment: the mean square of the network's inputs; only half-stable activations ask for it.
        residual_gain: γ of all skip connections, where the forward pass hides it.
        identity_skips: an identity skip, γ = 1, cannot be critical for any C_W > 0. `refuse` says so; `shrink`
            gives the last layer of each of the B branches C_W/B, so that kernels grow by (1 + 1/B)^B < e in all:
            bounded at every depth, though not critical.
        skip: types or names of modules to leave as they are; the theory knows nothing of what they do. Signals count
            as unchanged by them, or, where they hold layers, as preactivations.
        as_chain: take the layers as a chain in the order in which the model holds them, without looking at the forward
            pass; there are no skip connections then.
        generator: of the random numbers. Without it they come from torch's own, which `torch.manual_seed` seeds. With
            it they are drawn on its device, in float32 always, and copied to the parameters: one seed gives one
            start, whatever device and precision the model has.

    Returns:
        What each layer was given.

    Raises:
        InitialisationError: layers or operations that it does not know, listed; nothing has been changed.
        CriticalityError: the activation has no critical point, or γ = 1.
    """
    if identity_skips not in ("refuse", "shrink"):
        raise InitialisationError(f"identity_skips cannot be {identity_skips!r}", "give 'refuse' or 'shrink'")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InitialisationError(
            f"a generator cannot be {generator!r}", "give a torch.Generator, such as torch.Generator().manual_seed(0)"
        )
    if not (math.isfinite(input_second_moment) and input_second_moment > 0):
        raise InitialisationError(
            f"inputs cannot have a mean square of {input_second_moment}", "give a positive input_second_moment"
        )
    model, skip = _own(model), _listed(model, skip)
    given = None if activation is None else as_activation(activation)
    graph = _graph(model, given, skip, as_chain)
    notes = [*graph.notes, *_mixed(graph)]
    branches = _branch_factors(graph, residual_gain, identity_skips, notes)
    planned = [
        (use, _layer_plan(use, given or _activation_behind(use, graph), branches, input_second_moment, notes))
        for use in graph.layers
    ]  # all of it before anything is changed
    with torch.no_grad():
        for use, one in planned:
            layer: Any = use.layer
            _draw(layer.weight, one.deviation, generator)
            if layer.bias is not None:
                _draw(layer.bias, math.sqrt(one.bias_variance), generator)
    without = [one.name for use, one in planned if one.bias_variance > 0 and getattr(use.layer, "bias", None) is None]
    if without:
        notes.append(f"no bias in {', '.join(without)}, though C_b > 0: kernels there are smaller than K*")
    frozen = [one.name or "(model)" for use, one in planned if not _trains(use.layer)]
    if frozen:
        notes.append(f"drawn anew although frozen: {', '.join(frozen)}; name them in skip= to keep them")
    left = [name for name, module in model.named_modules() if name and _left_alone(module, skip, name)]
    if left:
        notes.append(f"left as they are: {', '.join(left)}")
    return Initialisation(tuple(one for _, one in planned), tuple(dict.fromkeys(notes)))


def _draw(parameter: Tensor, deviation: float, generator: torch.Generator | None) -> None:
    """Fill a parameter from N(0, deviation²)."""
    device = parameter.device if generator is None else generator.device
    numbers = torch.randn(parameter.shape, generator=generator, device=device, dtype=torch.float32)
    parameter.copy_(numbers * deviation)


def _trains(layer: nn.Module) -> bool:
    return all(parameter.requires_grad for parameter in layer.parameters(recurse=False))


def _own(model: nn.Module) -> nn.Module:
    """The model itself, out of the wrappers of `torch.compile` and `nn.DataParallel`."""
    if not isinstance(model, nn.Module):
        raise InitialisationError(f"{type(model).__name__} is no network", "give a torch.nn.Module")
    if isinstance(model, nn.DataParallel):
        return _own(model.module)
    inner = getattr(model, "_orig_mod", None)
    return _own(inner) if isinstance(inner, nn.Module) else model


def _listed(model: nn.Module, skip: Skipped | type[nn.Module]) -> Skipped:
    """What is to be skipped, as a tuple, if all the names are names of modules."""
    listed = (skip,) if isinstance(skip, (str, type)) else tuple(skip)
    names = dict(_own(model).named_modules())
    strangers = [repr(one) for one in listed if not (one in names if isinstance(one, str) else isinstance(one, type))]
    if strangers:
        raise InitialisationError(
            f"skip names {', '.join(strangers)}, which the model does not hold", "give types or names of its modules"
        )
    return listed


def _mixed(graph: LayerGraph) -> list[str]:
    """A note where several activations meet and one of them has a kernel of its own."""
    sigmas = {use.activation.name: use.activation for use in graph.layers if use.activation is not None}
    if len(sigmas) < 2:
        return []
    points = {name: critical_point(sigma) for name, sigma in sigmas.items()}
    own = [f"{name}'s K* = {one.kernel:.3g}" for name, one in points.items() if one.universality == "half-stable"]
    if not own:
        return []
    return [f"activations differ, so that kernels do not begin at {' and '.join(own)} everywhere; none is adjusted"]


def _left_alone(module: nn.Module, skip: Skipped, name: str) -> bool:
    return any(name == one if isinstance(one, str) else isinstance(module, one) for one in skip)


def _graph(model: nn.Module, given: Activation | None, skip: Skipped, as_chain: bool) -> LayerGraph:
    """The layers and what feeds them, or a refusal."""
    try:
        graph = chain(model, skip) if as_chain else layer_graph(model, skip)
    except TraceError as error:
        raise InitialisationError(
            f"the forward pass cannot be followed ({error})",
            "if the layers are a plain chain, give as_chain=True and the activation; nothing has been changed",
        ) from error
    if graph.problems:
        count = len(graph.problems)
        shown = ", ".join(graph.problems[:12]) + (f" and {count - 12} more" if count > 12 else "")
        raise InitialisationError(
            f"the theory does not know {shown}",
            "leave modules as they are with skip=(types or names), or initialise this network by other means; "
            "nothing has been changed",
        )
    if not graph.layers:
        raise InitialisationError("the model has no linear or convolutional layer", "nothing has been changed")
    if given is not None:
        if not as_chain and len(graph.layers) > 1 and all(use.activation is None for use in graph.layers):
            raise InitialisationError(
                f"{given.name} is given, but no activation can be seen in the forward pass",
                "if the layers are a plain chain, give as_chain=True as well; nothing has been changed",
            )
        for use in graph.layers:
            if use.activation is not None or (as_chain and not use.is_first):
                use.activation = given
    elif as_chain and len(graph.layers) > 1 and graph.layers[1].activation is None:
        raise InitialisationError(
            "the activation cannot be told from the model's modules", "give it, for example activation='relu'"
        )
    behind = [use.skip for use in graph.layers if use.skip is not None and use.skip.behind_activation]
    if behind:
        names = ", ".join(name for one in behind for name in one.producers)
        raise InitialisationError(
            f"the skip connections that end at {names} begin behind an activation, which makes signals that are not "
            "centred; the book's residual networks pass preactivations on",
            "apply the activation inside the branch, or leave these blocks as they are with skip=; "
            "nothing has been changed",
        )
    return graph


def _branch_factors(
    graph: LayerGraph, residual_gain: float | None, identity_skips: IdentitySkips, notes: list[str]
) -> dict[str, float]:
    """What C_W of the last layer of each branch is multiplied by."""
    skips = graph.skips
    if residual_gain is not None and not skips:
        raise InitialisationError(
            "residual_gain is given, but the model has no skip connection that can be seen", "leave it out"
        )
    factors: dict[str, float] = {}
    identities: list[Sum] = []
    for one in skips:
        gain = one.gain if residual_gain is None else residual_gain
        if abs(gain) < 1:
            share = (1 - gain**2) / one.branch_gain**2
            factors |= {name: share / len(one.producers) for name in one.producers}
            continue
        identities.append(one)
        if identity_skips == "refuse" or abs(gain) > 1:
            raise CriticalityError(
                f"the skip connection that ends at {', '.join(one.producers)} has γ = {gain:g}, which cannot be "
                "critical: C_W = (1 − γ²)/A2 leaves nothing for the weights; nothing has been changed",
                "multiply the skip by γ < 1 in the model, or give identity_skips='shrink', which bounds the growth",
            )
    for one in identities:
        share = 1 / (len(identities) * one.branch_gain**2)
        factors |= {name: share / len(one.producers) for name in one.producers}
    if identities:
        growth = (1 + 1 / len(identities)) ** len(identities)
        notes.append(
            f"{len(identities)} identity skips are not critical: each branch adds 1/{len(identities)} of the kernel, "
            f"so that it grows by {growth:.2f} in all"
        )
    elif skips:
        notes.append(f"{len(skips)} skip connections taken into account")
    return factors


def _layer_plan(
    use: LayerUse, behind: Activation | None, branches: dict[str, float], input_second_moment: float, notes: list[str]
) -> InitialisedLayer:
    """What a layer shall be given; `behind` is the activation that a first layer's preactivations meet."""
    kind = type(use.layer).__name__
    factor = use.share * branches.get(use.name, 1.0)
    sigma = behind if use.is_first else use.activation
    fed_by = "input" if use.is_first else sigma.name if sigma else "linear"
    if sigma is None:  # a linear layer behind a linear layer
        return InitialisedLayer(use.name, kind, use.fan_in, fed_by, factor, 0.0)
    point = critical_point(sigma)
    weight_variance, bias_variance = point.weight_variance, point.bias_variance
    if point.universality == "half-stable":
        if use.name in branches:
            raise CriticalityError(
                f"{sigma.name} is half-stable, and its residual critical point is not in the book; "
                "nothing has been changed",
                "use ReLU, tanh or another activation of their classes in residual networks",
            )
        if use.is_first:
            arriving = input_second_moment * use.input_gain**2
            weight_variance = (point.kernel - point.bias_variance) / arriving
            notes.append(
                f"the first layer brings inputs of mean square {arriving:g} to {sigma.name}'s "
                f"K* = {point.kernel:.6g}, which {point.stability}"
            )
    return InitialisedLayer(use.name, kind, use.fan_in, fed_by, weight_variance * factor, bias_variance * factor)


def _activation_behind(first: LayerUse, graph: LayerGraph) -> Activation | None:
    """The activation that a layer's preactivations meet first: that which feeds the layer behind it."""
    behind = {first.name}
    for use in graph.layers:
        if behind.intersection(use.fed_by):
            if use.activation is not None:
                return use.activation
            behind.add(use.name)
    return next((use.activation for use in graph.layers if not use.is_first and use.activation is not None), None)


# learning rates


def learning_rates(
    model: nn.Module,
    activation: ActivationLike | None = None,
    *,
    lr: float,
    skip: Skipped = (),
    as_chain: bool = False,
) -> list[dict[str, Any]]:
    """Parameter groups for any `torch.optim.Optimizer`, by the learning-rate equivalence principle (9.4).

    Every layer, and biases as much as weights, shall contribute alike to the change of the outputs. Of layer ℓ of L,
    biases get lr·λ_b and weights lr·λ_W/fan_in, with λ_b = λ_W = 1/L for scale-invariant activations (9.94), and
    λ_b = ℓ^−p⊥ L^(p⊥−1), λ_W = (L/ℓ)^(p⊥−1) for the class K* = 0 (9.95); for tanh and sin these are 1/ℓ and 1 (9.96).
    Where the second derivative of σ jumps at 0, as in ELU, kernels fall as ℓ^−2 and λ_W = ℓ^(2−p⊥) L^(p⊥−1): not in
    the book, but by its demand.
    The principle is derived for plain gradient descent; momentum keeps its ratios, Adam does not.

    Args:
        model: as for `critical_init_`; skip connections do not change the rates.
        activation: σ; otherwise that behind the first layer is taken.
        lr: the global learning rate η.
        skip: types or names of modules that the theory does not know; their parameters get `lr` as it is.
        as_chain: see `critical_init_`.

    Returns:
        Groups with `params`, `lr` and `name`; every parameter of the model is in one of them.

    Raises:
        InitialisationError: as `critical_init_`; or lr is not positive.
        CriticalityError: the activation has no critical point, or is half-stable.
    """
    if not (math.isfinite(lr) and lr > 0):
        raise InitialisationError(f"a learning rate of {lr} does not learn", "give a positive lr")
    model, skip = _own(model), _listed(model, skip)
    given = None if activation is None else as_activation(activation)
    graph = _graph(model, given, skip, as_chain)
    sigma = given or _activation_behind(graph.layers[0], graph)
    point = critical_point(sigma if sigma is not None else "linear")
    depth = max(use.depth for use in graph.layers)
    groups: list[dict[str, Any]] = []
    grouped: set[int] = set()
    for use in graph.layers:
        bias_rate, weight_rate = layer_rates(point, use.depth, depth)
        layer: Any = use.layer
        name = use.name or "model"
        groups.append({"params": [layer.weight], "lr": lr * weight_rate / use.fan_in, "name": f"{name}.weight"})
        if layer.bias is not None:
            groups.append({"params": [layer.bias], "lr": lr * bias_rate, "name": f"{name}.bias"})
        grouped |= {id(parameter) for parameter in layer.parameters(recurse=False)}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in grouped]
    if rest:
        groups.append({"params": rest, "lr": lr, "name": "rest"})
    return groups


def layer_rates(point: CriticalPoint, layer: int, depth: int) -> tuple[float, float]:
    """(λ_b, λ_W) of layer ℓ of L with λ̃ = 1 (9.94, 9.95).

    Weights of layer ℓ add λ_W K to the tangent kernel where biases add λ_b, and K falls as ℓ^−p0, so that
    λ_W = ℓ^(p0−p⊥) L^(p⊥−1); p0 = 1 gives (9.95).

    Args:
        point: the activation's critical point.
        layer, depth: ℓ and L, counted from 1.

    Raises:
        CriticalityError: a class that the book derives no rates for.
    """
    if point.universality == "scale-invariant":
        return 1 / depth, 1 / depth
    power = point.exponents.get("p_perpendicular")
    if point.universality != "K*=0" or power is None:
        raise CriticalityError(
            f"the book derives learning rates for scale-invariant activations and the class K* = 0; this one is "
            f"{point.universality}, and {point.stability}",
            "use ReLU, tanh or another activation of these classes",
        )
    return layer**-power * depth ** (power - 1), layer ** (point.exponents["p_0"] - power) * depth ** (power - 1)
