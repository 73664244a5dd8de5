"""Gradient noise (Neelakantan and others; arXiv 1511.06807): for any optimiser, and for loops of one's own.

The noise of a step is a function of (seed, step, shard) and of nothing else. All gradients of one kind, one after the
other, are one long vector; every block of it has random numbers of its own, so that blocks can be drawn at the same
time on several cores, and a training that was killed continues with the noise that it would have had.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from encore.base.errors import ConfigurationError
from encore.training.noise_blocks import Draw, add_noise, block_size, by_kind, draw_all, fill, summed_gradient

STATE_KEY = "gradient_noise"
"""The entry of an optimiser's `state_dict` that is ours, and the key of a parameter group that switches noise off."""

_SHARED_HOOKS = (
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


def noise_variance(step: int, eta: float, gamma: float = 0.55) -> float:
    """σ² = η / (1 + t)^γ, section 2 of the paper.

    Args:
        step: t, optimiser steps taken before this one, from 0.
        eta: η, the variance at the first step; the paper chooses among 0.01, 0.3 and 1.
        gamma: γ, how fast it fades; 0 keeps it.
    """
    variance: float = eta / (1 + step) ** gamma
    return variance


def check_noise(eta: float, gamma: float) -> None:
    """See that η and γ can be.

    Raises:
        ConfigurationError: η is not above 0, γ is below 0, or one of them is not finite.
    """
    if not (math.isfinite(eta) and eta > 0):
        raise ConfigurationError(
            f"gradient noise of variance eta={eta}", "eta is above 0 (the paper: 0.01, 0.3 or 1); leave the noise out"
        )
    if not (math.isfinite(gamma) and gamma >= 0):
        raise ConfigurationError(
            f"gradient noise with gamma={gamma} would grow",
            "gamma is at least 0: 0 keeps it, 0.55 anneals it",
        )


def standard_normal_(vector: Tensor, seed: int, step: int, place: tuple[int, ...] = (0, 0)) -> Tensor:
    """Fill `vector` with the standard normal numbers of a step, as `GradientNoise` draws them.

    Args:
        vector: (P,) float32 or float64, contiguous, on any device: one number for each parameter of a network, its
            tensors one after the other.
        seed, step: of the noise.
        place: which of several vectors of the same step it is: the kind of gradients, in the order in which they come,
            and the shard.

    Returns:
        `vector`.
    """
    blocks = vector.split(block_size(vector.device))
    draw_all(blocks, range(len(blocks)), lambda block, index: fill(block, seed, step, place, index))
    return vector


def add_gradient_noise_(
    parameters: Iterable[Tensor],
    step: int,
    eta: float,
    gamma: float = 0.55,
    generator: torch.Generator | None = None,
) -> float:
    """Add the noise of one step to `.grad` of every parameter that has one: the paper's one line, for any loop.

    Call it once per optimiser step, after clipping and before `optimizer.step()`; with several micro-batches, after
    the last; with several processes that share a model, with the same numbers in each.

    Args:
        parameters: of any shape, floating point, on one device if `generator` is given.
        step: t, from 0.
        eta, gamma: see `noise_variance`. η is a variance: its root is the deviation at the first step.
        generator: of the noise; PyTorch's own if absent.

    Returns:
        The standard deviation that was added.

    Raises:
        ConfigurationError: η is not above 0, γ or `step` is below 0, or a gradient is sparse.
    """
    check_noise(eta, gamma)
    if step < 0:
        raise ConfigurationError(f"gradient noise of step {step}", "steps count from 0")
    std = math.sqrt(noise_variance(step, eta, gamma))
    for gradients in by_kind(_gradients(parameters)).values():
        add_noise(gradients, std, lambda block, _: block.normal_(generator=generator), blocks_at_once=1)
    return std


class GradientNoise(Optimizer):
    """Any optimiser, with annealed Gaussian noise on its gradients.

    ```text
    g ← clipped gradient        g ← g + N(0, η / (1 + t)^γ)        inner optimiser's step with g        t ← t + 1
    ```

    It is an `Optimizer` itself: learning-rate schedulers, `GradScaler`, Lightning and accelerate take it. Its parameter
    groups, its state and its defaults are those of the inner optimiser, not copies; `state_dict` holds one more entry,
    `gradient_noise`, and one without that entry is taken as well.

    - **Order.** A closure (Lightning passes one) is run first, with everything that it does to the gradients; then
      comes the noise, then the inner step. So noise is added once per step, after clipping, also where gradients were
      accumulated over several batches, and learning rate, momentum and moments see gradient and noise.
    - **Mixed precision.** `GradScaler` unscales before it calls `step`, also for fused optimisers, and does not call it
      where gradients overflowed: such a step has no noise and is not counted. Numbers are drawn in float32 whatever the
      gradients' type (in float64 for float64).
    - **Several processes.** With DDP all processes draw the same noise, since the seed is the same. A `DTensor` (FSDP2,
      tensor parallelism) has noise that depends on the shard, and is the same for replicas of a shard; one that is
      still to be summed over processes is summed first. FSDP1 hides its shards: give each process a `shard` of its own.
    - A parameter group with `gradient_noise=False` has none, nor have parameters without a gradient.

    Args:
        optimizer: the inner one.
        eta: η, the **variance** at the first step (0.01, 0.3 or 1 in the paper).
        gamma: γ, 0.55 in the paper.
        std: instead of `eta`, a standard deviation that does not fade.
        start_step: optimiser steps before the first noise, from which t counts.
        seed: of the noise; the same in all processes.
        shard: tells processes apart that hold different parameters; leave it at 0 for DDP and FSDP2.

    Attributes:
        num_steps: steps taken.

    Raises:
        ConfigurationError: η or `std` is not above 0, or γ below 0; both or neither of `eta` and `std`; what is wrapped
            is no optimiser, or one that has to compute gradients itself, several times a step (LBFGS); in `step`, a
            sparse gradient.
    """

    # GradScaler unscales the gradients before `step`; a fused optimiser would do so afterwards, noise included.
    _step_supports_amp_scaling = False

    def __init__(
        self,
        optimizer: Optimizer,
        eta: float | None = None,
        gamma: float = 0.55,
        *,
        std: float | None = None,
        start_step: int = 0,
        seed: int = 0,
        shard: int = 0,
    ) -> None:
        if (eta is None) == (std is None):
            raise ConfigurationError(
                f"gradient noise with eta={eta} and std={std}",
                "give either eta, a variance that fades, or std, a deviation that stays",
            )
        if std is not None:
            if not (math.isfinite(std) and std > 0):
                raise ConfigurationError(
                    f"gradient noise of deviation std={std}", "std is above 0; leave the noise out"
                )
            eta, gamma = std**2, 0.0
        assert eta is not None
        check_noise(eta, gamma)
        if start_step < 0:
            raise ConfigurationError(f"gradient noise from step {start_step} on", "start_step is at least 0")
        if not hasattr(optimizer, "step"):
            raise ConfigurationError(
                f"gradient noise around a {type(optimizer).__name__}, which is no optimiser",
                "wrap a torch.optim.Optimizer, as in GradientNoise(torch.optim.SGD(parameters, lr=0.1), eta=0.01)",
            )
        if isinstance(optimizer, GradientNoise):
            raise ConfigurationError("this optimiser has gradient noise already", "wrap it once")
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise ConfigurationError(
                f"{type(optimizer).__name__} computes gradients itself, several times a step, so noise has no place",
                "use an optimiser whose step takes the gradients that are there, such as SGD or Adam",
            )
        self.eta, self.gamma, self.start_step = eta, gamma, start_step
        self.seed, self.shard = seed, shard
        self.num_steps = 0
        self.optimizer = optimizer
        self.__setstate__({})

    # what makes it the inner optimiser

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # also gives this object its own step hooks, and profiling
        for name in _SHARED_HOOKS:
            setattr(self, name, getattr(self.optimizer, name))

    def __getstate__(self) -> dict[str, Any]:
        names = ("optimizer", "eta", "gamma", "start_step", "seed", "shard", "num_steps")
        return {name: self.__dict__[name] for name in names}

    def __getattr__(self, name: str) -> Any:
        if name == "optimizer" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimiser's."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """The inner optimiser's."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The inner optimiser's."""
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.optimizer.defaults = defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimiser; `gradient_noise=False` in it means no noise."""
        self.optimizer.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The inner optimiser's."""
        self.optimizer.zero_grad(set_to_none)

    def __repr__(self) -> str:
        return f"GradientNoise(eta={self.eta:g}, gamma={self.gamma:g}, {self.optimizer!r})"

    # the noise

    @property
    def std(self) -> float:
        """Standard deviation of the noise of the coming step; 0 before `start_step`."""
        step = self.num_steps - self.start_step
        return math.sqrt(noise_variance(step, self.eta, self.gamma)) if step >= 0 else 0.0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step: closure, noise, inner step.

        Args:
            closure: clears gradients, computes the loss and its gradients, and returns the loss; run once.

        Returns:
            What the closure returned; without one, what the inner optimiser returned.

        Raises:
            ConfigurationError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.std > 0:
            self._add_noise()
        outcome = self.optimizer.step()
        self.num_steps += 1
        return outcome if closure is None else loss

    @torch.compiler.disable  # random numbers of one's own are nothing to trace
    def _add_noise(self) -> None:
        noisy = (group["params"] for group in self.param_groups if group.get(STATE_KEY, True))
        kinds = by_kind(_gradients(parameter for group in noisy for parameter in group))
        for place, ((_, _, shard), gradients) in enumerate(kinds.items()):
            where = (place, self.shard, *shard)
            at_once = torch.get_num_threads() if gradients[0].device.type == "cpu" else 1
            add_noise(gradients, self.std, self._drawn(where), at_once)

    def _drawn(self, where: tuple[int, ...]) -> Draw:
        return lambda block, index: fill(block, self.seed, self.num_steps, where, index)

    def state_dict(self) -> dict[str, Any]:
        """The inner optimiser's, with seed and number of steps under `gradient_noise`."""
        return {**self.optimizer.state_dict(), STATE_KEY: {"seed": self.seed, "num_steps": self.num_steps}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` left, of this class or of the inner optimiser alone; η and γ stay as they are."""
        inner = dict(state_dict)
        noise = inner.pop(STATE_KEY, None)
        self.optimizer.load_state_dict(inner)
        if noise is not None:
            self.seed, self.num_steps = int(noise["seed"]), int(noise["num_steps"])


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """What there is of gradients, each as the sum that the inner optimiser would make of it.

    Raises:
        ConfigurationError: one of them is sparse.
    """
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in with_gradient:
        if parameter.grad is not None and parameter.grad.layout != torch.strided:
            raise ConfigurationError(
                f"a gradient of shape {tuple(parameter.grad.shape)} is sparse, and noise on all of it would make it "
                "dense",
                "make the embedding with sparse=False, or give its parameter group gradient_noise=False",
            )
    return [summed_gradient(parameter) for parameter in with_gradient]
