"""Gradient noise: its variance and place in a step, what it shares with the inner optimiser, and where it is drawn."""

from __future__ import annotations

import copy
import io
import math
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from encore.base.errors import ConfigurationError, InputError
from encore.training.configuration import TrainingConfiguration
from encore.training.gradient_noise import (
    STATE_KEY,
    GradientNoise,
    add_gradient_noise_,
    noise_variance,
    standard_normal_,
)
from encore.training.noise_blocks import BLOCK
from encore.training.optimisation import make_optimizer
from encore.training.trainer import quiet_lightning

from .noisy_processes import Net, batch, leave_noise, walk
from .test_trainer import CONFIGURATION, trained


@pytest.fixture
def threads() -> Iterator[None]:
    """Put the number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def weights(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Parameters at zero with gradients of zero."""
    parameters = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    return parameters


def noise_of(parameters: list[nn.Parameter], step: int = 0, eta: float = 0.3, **more: Any) -> list[Tensor]:
    """What a step adds to the gradients: the step itself, with rate 1, from zero."""
    optimizer = GradientNoise(torch.optim.SGD(parameters, lr=1.0), eta, **more)
    optimizer.num_steps = step
    optimizer.step()
    return [-parameter.detach() for parameter in parameters]


# the variance


@pytest.mark.parametrize("step", [0, 10, 1000])
def test_the_variance_of_a_million_draws_is_the_formula(step: int):
    (noise,) = noise_of(weights((1_000_000,)), step)
    assert noise.var() == pytest.approx(0.3 / (1 + step) ** 0.55, rel=0.01)
    assert abs(noise.mean()) < 5 * math.sqrt(0.3 / (1 + step) ** 0.55 / 1e6)


def test_the_schedule_is_that_of_optax():
    """Variances of 10⁶ draws of optax 0.2.8's `add_noise(0.3, 0.55)` at its updates 1, 2, 11 and 101."""
    measured = {0: 0.30083, 1: 0.20511, 10: 0.08021, 100: 0.02373}
    for step, variance in measured.items():
        assert noise_variance(step, 0.3) == pytest.approx(variance, rel=5e-3)


def test_the_noise_is_normal():
    (noise,) = noise_of(weights((400_000,)), eta=1.0)
    standard = noise.double()
    assert (standard**3).mean() == pytest.approx(0, abs=0.035)
    assert (standard**4).mean() == pytest.approx(3, abs=0.08)
    assert (standard.abs() < 1).double().mean() == pytest.approx(0.6827, abs=0.004)


def test_a_deviation_may_stay():
    (noise,) = noise_of(weights((100_000,)), 5000, eta=None, std=0.001)
    assert noise.std() == pytest.approx(0.001, rel=0.02)


def test_no_noise_before_the_start_from_which_steps_are_counted():
    optimizer = GradientNoise(torch.optim.SGD(weights((100_000,)), lr=1.0), 0.3, start_step=2)
    deviations = []
    for _ in range(4):
        before = optimizer.param_groups[0]["params"][0].detach().clone()
        optimizer.step()
        deviations.append(float((optimizer.param_groups[0]["params"][0].detach() - before).std()))
        optimizer.param_groups[0]["params"][0].grad.zero_()
    assert deviations[:2] == [0, 0]
    assert deviations[2] == pytest.approx(math.sqrt(0.3), rel=0.02)
    assert deviations[3] == pytest.approx(math.sqrt(0.3 / 2**0.55), rel=0.02)


# the numbers


def test_noise_depends_on_seed_and_step_alone():
    first, again = (noise_of(weights((3, 4), (5,)), 7, seed=1) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    for other in (noise_of(weights((3, 4), (5,)), 8, seed=1), noise_of(weights((3, 4), (5,)), 7, seed=2)):
        assert not torch.equal(first[0], other[0])


def test_no_two_entries_share_their_noise():
    noise = torch.cat([one.flatten() for one in noise_of(weights((BLOCK - 10,), (300, 100), (BLOCK,)), eta=1.0)])
    assert len(noise.unique()) > 0.95 * len(noise)
    first, second = noise[:BLOCK], noise[BLOCK : 2 * BLOCK]
    assert abs(float((first * second).mean())) < 5 / math.sqrt(BLOCK)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_all_gradients_are_one_vector_however_many_cores_draw_it(num_threads: int, threads: None):
    torch.set_num_threads(num_threads)
    shapes = ((3, 5), (2 * BLOCK + 7,), (4, 4, 4))
    noise = torch.cat([one.flatten() for one in noise_of(weights(*shapes), 3, eta=1.0, seed=9)])
    torch.set_num_threads(1)
    vector = standard_normal_(torch.empty(len(noise)), 9, 3)
    torch.testing.assert_close(noise, vector * math.sqrt(noise_variance(3, 1.0)))


def test_channels_last_and_gradients_with_gaps_have_noise_of_the_same_variance():
    last, gaps = nn.Parameter(torch.zeros(40, 30, 5, 5)), nn.Parameter(torch.zeros(200, 100))
    last.grad = torch.zeros_like(last).to(memory_format=torch.channels_last)
    gaps.grad = torch.zeros(200, 300)[:, ::3]
    for noise in noise_of([last, gaps], eta=1.0):
        assert noise.std() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_other_types_have_it_too(dtype: torch.dtype):
    (noise,) = noise_of(weights((200, 200), dtype=dtype), eta=1.0)
    entries = torch.view_as_real(noise) if dtype.is_complex else noise
    assert entries.double().std() == pytest.approx(1, rel=0.02)


def test_half_precision_is_rounded_once():
    (single,), (half,) = (noise_of(weights((50,), dtype=dtype)) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(single.bfloat16(), half)


def test_what_has_no_gradient_or_wants_no_noise_stays():
    noisy, quiet, absent = weights((1000,), (1000,), (1000,))
    absent.grad = None
    groups = [{"params": [noisy, absent]}, {"params": [quiet], STATE_KEY: False}]
    GradientNoise(torch.optim.SGD(groups, lr=1.0), 1.0).step()
    assert noisy.detach().std() == pytest.approx(1, rel=0.1)
    assert not quiet.detach().any()
    assert not absent.detach().any()


def test_the_function_adds_the_same_noise_to_any_loop():
    parameters = weights((300, 400))
    generator = torch.Generator().manual_seed(0)
    std = add_gradient_noise_(parameters, 10, 0.3, generator=generator)
    assert std == pytest.approx(math.sqrt(0.3 / 11**0.55))
    assert parameters[0].grad is not None
    assert parameters[0].grad.std() == pytest.approx(std, rel=0.02)


# its place in a step


def test_noise_comes_after_clipping_and_before_rate_and_momentum():
    torch.manual_seed(0)
    net, twin = Net(), Net()
    twin.load_state_dict(net.state_dict())
    wrapped = GradientNoise(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), 0.3, seed=4)
    plain = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    walk(wrapped, net, range(6), clip=0.01)
    for step in range(6):
        plain.zero_grad()
        twin(batch(step)).square().mean().backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
        vector = standard_normal_(torch.empty(sum(one.numel() for one in twin.parameters())), 4, step)
        pieces = vector.split([one.numel() for one in twin.parameters()])
        for parameter, piece in zip(twin.parameters(), pieces, strict=True):
            assert parameter.grad is not None
            parameter.grad += math.sqrt(0.3 / (1 + step) ** 0.55) * piece.view_as(parameter)
        plain.step()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_closure_is_run_once_with_gradients_and_its_loss_returned():
    torch.manual_seed(0)
    net, twin = Net(), Net()
    twin.load_state_dict(net.state_dict())
    with_closure = GradientNoise(torch.optim.Adam(net.parameters(), lr=0.01), 0.3)
    without = GradientNoise(torch.optim.Adam(twin.parameters(), lr=0.01), 0.3)
    calls = 0
    for step in range(3):

        def closure(step: int = step) -> Tensor:
            nonlocal calls
            calls += 1
            with_closure.zero_grad()
            loss: Tensor = net(batch(step)).square().mean()
            loss.backward()
            return loss

        with torch.no_grad():
            loss = with_closure.step(closure)
        without.zero_grad()
        expected = twin(batch(step)).square().mean()
        expected.backward()
        assert without.step() is None
        assert torch.equal(loss, expected)
    assert calls == 3
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), twin.parameters(), strict=True))


def test_gradients_of_several_batches_have_one_draw():
    (parameter,) = weights((100_000,))
    optimizer = GradientNoise(torch.optim.SGD([parameter], lr=1.0), 1.0, gamma=0.0)
    for _ in range(8):
        (0 * parameter).sum().backward()
    optimizer.step()
    assert parameter.detach().std() == pytest.approx(1, rel=0.02)
    assert optimizer.num_steps == 1


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning_clips_first_and_counts_optimiser_steps(tmp_path: Path, accumulated: int):
    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, inputs: Tensor, index: int) -> Tensor:
            loss: Tensor = 100 * self.net(inputs).square().mean()
            return loss

        def configure_optimizers(self) -> Any:
            inner = torch.optim.SGD(self.net.parameters(), lr=0.1)
            self.noisy = GradientNoise(inner, 0.01, seed=2)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.noisy, 4)
            return {"optimizer": self.noisy, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    torch.manual_seed(0)
    module, twin = Module(), Net()
    twin.load_state_dict(module.net.state_dict())
    batches = [batch(step) for step in range(4)]
    with quiet_lightning():
        lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            gradient_clip_val=0.05,
            accumulate_grad_batches=accumulated,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        ).fit(module, torch.utils.data.DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    plain = torch.optim.SGD(twin.parameters(), lr=0.1)
    noisy = GradientNoise(plain, 0.01, seed=2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(noisy, 4)
    for first in range(0, 4, accumulated):
        noisy.zero_grad()
        for inputs in batches[first : first + accumulated]:
            (100 * twin(inputs).square().mean() / accumulated).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.05)
        noisy.step()
        schedule.step()
    assert module.noisy.num_steps == 4 // accumulated
    for one, other in zip(module.net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("fused", [False, True])
def test_the_scaler_unscales_before_the_noise_and_a_step_that_overflows_is_not_counted(fused: bool):
    (parameter,) = weights((50_000,))
    inner = torch.optim.SGD([parameter], lr=1.0, fused=fused)
    optimizer = GradientNoise(inner, 1.0, gamma=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaler.scale((parameter * torch.full_like(parameter, math.inf)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert optimizer.num_steps == 0
    assert not parameter.detach().any()
    optimizer.zero_grad()
    scaler.scale(parameter.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert optimizer.num_steps == 1
    assert parameter.detach().mean() == pytest.approx(-1, abs=0.03)
    assert parameter.detach().std() == pytest.approx(1, rel=0.02)


# what it shares with the inner optimiser


def test_it_is_an_optimiser_with_the_inner_ones_groups_and_state():
    net = Net()
    inner = torch.optim.AdamW(net.parameters(), lr=0.1)
    optimizer = GradientNoise(inner, 0.3)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is inner.param_groups
    assert optimizer.state is inner.state
    assert optimizer.defaults is inner.defaults
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    walk(optimizer, net, range(1))
    schedule.step()
    assert inner.param_groups[0]["lr"] == 0.05
    extra = nn.Parameter(torch.zeros(3))
    optimizer.add_param_group({"params": [extra], STATE_KEY: False})
    assert inner.param_groups[1]["params"] == [extra]
    assert "GradientNoise(eta=0.3" in repr(optimizer)


def test_hooks_of_a_step_are_called_once_around_all_of_it():
    net = Net()
    optimizer = GradientNoise(torch.optim.SGD(net.parameters(), lr=0.1), 0.3)
    seen: list[Any] = []
    optimizer.register_step_pre_hook(lambda one, *_: seen.append(one))
    optimizer.register_step_post_hook(lambda one, *_: seen.append(one.num_steps))
    walk(optimizer, net, range(1))
    assert seen == [optimizer, 1]


def test_a_resumed_training_continues_with_the_same_noise():
    torch.manual_seed(0)
    whole, part = Net(), Net()
    part.load_state_dict(whole.state_dict())
    walk(GradientNoise(torch.optim.Adam(whole.parameters(), lr=0.01), 0.3, seed=5), whole, range(8))
    first = GradientNoise(torch.optim.Adam(part.parameters(), lr=0.01), 0.3, seed=5)
    walk(first, part, range(3))
    buffer = io.BytesIO()
    torch.save({"net": part.state_dict(), "optimizer": first.state_dict()}, buffer)
    buffer.seek(0)
    kept = torch.load(buffer, weights_only=True)
    resumed = Net()
    resumed.load_state_dict(kept["net"])
    second = GradientNoise(torch.optim.Adam(resumed.parameters(), lr=0.9), 0.3)
    second.load_state_dict(kept["optimizer"])
    walk(second, resumed, range(3, 8))
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), resumed.parameters(), strict=True))
    copied = copy.deepcopy(second)
    assert copied.num_steps == 8
    assert copied.param_groups is not second.param_groups


def test_a_state_without_noise_is_taken_and_the_inner_part_of_one_with_noise():
    net = Net()
    plain = torch.optim.Adam(net.parameters())
    walk(plain, net, range(2))
    optimizer = GradientNoise(torch.optim.Adam(net.parameters()), 0.3)
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.num_steps == 0
    state = optimizer.state_dict()
    assert state.pop(STATE_KEY) == {"seed": 0, "num_steps": 0}
    plain.load_state_dict(state)


def test_distributed_checkpoints_keep_the_inner_state():
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    net = Net()
    optimizer = GradientNoise(torch.optim.Adam(net.parameters()), 0.3)
    walk(optimizer, net, range(2))
    kept = copy.deepcopy(get_optimizer_state_dict(net, optimizer))
    average = kept["state"]["linear.weight"]["exp_avg"].clone()
    walk(optimizer, net, range(2, 4))
    set_optimizer_state_dict(net, optimizer, kept)
    assert torch.equal(optimizer.state[net.linear.weight]["exp_avg"], average)
    assert optimizer.num_steps == 4


@pytest.mark.parametrize("fail_at", [7, 10])
def test_a_killed_fit_continues_with_the_same_noise(tmp_path: Path, fail_at: int):
    configuration = CONFIGURATION.model_copy(update={"gradient_noise": 0.01})
    whole, _ = trained(tmp_path / "whole", configuration=configuration)
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "killed", fail_at=fail_at, configuration=configuration)
    resumed, _ = trained(tmp_path / "killed", configuration=configuration)
    quiet, _ = trained(tmp_path / "quiet")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert not torch.equal(whole.model[0].weight, quiet.model[0].weight)


def test_the_configuration_wraps_any_optimiser():
    for name in ("sgd", "adam", "adamw", "lamb"):
        configuration = TrainingConfiguration(
            optimizer=name, gradient_noise=0.3, gradient_noise_decay=0.5, gradient_noise_start=9
        )
        optimizer = make_optimizer(Net(), configuration)
        assert isinstance(optimizer, GradientNoise)
        assert (optimizer.eta, optimizer.gamma, optimizer.start_step) == (0.3, 0.5, 9)
    assert not isinstance(make_optimizer(Net(), TrainingConfiguration()), GradientNoise)


@pytest.mark.parametrize("compiled", ["inner", "whole"])
def test_a_compiled_step_is_the_same_and_its_numbers_are_not_traced(compiled: str, recwarn: pytest.WarningsRecorder):
    torch.manual_seed(0)
    net, twin = Net(), Net()
    twin.load_state_dict(net.state_dict())
    inner = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    optimizer = GradientNoise(inner, 0.3)
    if compiled == "inner":
        inner.step = torch.compile(inner.step, backend="eager")  # type: ignore[method-assign]
    else:
        optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore[method-assign]
    walk(optimizer, net, range(4))
    walk(GradientNoise(torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9), 0.3), twin, range(4))
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert optimizer.num_steps == 4
    assert not [one for one in recwarn if "does not know how to trace" in str(one.message)]


def test_it_is_pickled_and_copied_with_its_network():
    torch.manual_seed(0)
    net = Net()
    optimizer = GradientNoise(torch.optim.Adam(net.parameters(), lr=0.01), 0.3, seed=3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=9)  # replaces `step`
    walk(optimizer, net, range(3))
    copies = copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps((net, optimizer)))
    walk(optimizer, net, range(3, 6))
    schedule.step()
    for other, its_own in copies:
        assert isinstance(its_own, GradientNoise)
        assert its_own.param_groups[0]["params"][0] is other.convolution.weight
        walk(its_own, other, range(3, 6))
        for one, same in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, same)


# what is refused


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"eta": 0.0}, "eta is above 0"),
        ({"eta": -1.0}, "eta is above 0"),
        ({"eta": math.nan}, "eta is above 0"),
        ({"eta": 0.3, "gamma": -0.1}, "gamma is at least 0"),
        ({}, "either eta"),
        ({"eta": 0.3, "std": 0.1}, "either eta"),
        ({"std": 0.0}, "std is above 0"),
        ({"std": -0.1}, "std is above 0"),
        ({"std": math.nan}, "std is above 0"),
        ({"eta": 0.3, "start_step": -1}, "at least 0"),
    ],
)
def test_impossible_noise_is_refused(arguments: dict[str, Any], says: str):
    with pytest.raises(ConfigurationError, match=says):
        GradientNoise(torch.optim.SGD(weights((1,)), lr=0.1), **arguments)


def test_a_step_before_the_first_is_refused():
    with pytest.raises(ConfigurationError, match="steps count from 0"):
        add_gradient_noise_(weights((1,)), -1, 0.3)


def test_parameters_in_place_of_an_optimiser_are_refused():
    with pytest.raises(ConfigurationError, match="around a Linear, which is no optimiser"):
        GradientNoise(nn.Linear(3, 2), 0.3)  # type: ignore[arg-type]


def test_lbfgs_and_a_second_wrapping_are_refused():
    with pytest.raises(InputError, match="LBFGS computes gradients itself"):
        GradientNoise(torch.optim.LBFGS(weights((1,))), 0.3)
    once = GradientNoise(torch.optim.SGD(weights((1,)), lr=0.1), 0.3)
    with pytest.raises(InputError, match="wrap it once"):
        GradientNoise(once, 0.3)


def test_sparse_gradients_are_refused_before_anything_is_changed():
    embedding, dense = nn.Embedding(10, 3, sparse=True), nn.Parameter(torch.zeros(3))
    optimizer = GradientNoise(torch.optim.SGD([dense, *embedding.parameters()], lr=0.1), 0.3)
    (embedding(torch.tensor([1, 2])).sum() + dense.sum()).backward()
    with pytest.raises(InputError, match="sparse=False"):
        optimizer.step()
    assert dense.grad is not None
    assert torch.equal(dense.grad, torch.ones(3))
    assert not dense.detach().any()
    with pytest.raises(InputError, match="sparse=False"):
        add_gradient_noise_(embedding.parameters(), 0, 0.3)


# several processes


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.skipif(not dist.is_available(), reason="this PyTorch has no torch.distributed")
def test_replicas_stay_equal_and_shards_have_noise_of_their_own(tmp_path: Path):
    torch.multiprocessing.spawn(leave_noise, (free_port(), str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, tensor in first["replica"].items():
        assert torch.equal(tensor, second["replica"][name]), name
    assert torch.equal(first["replicated"], second["replicated"])
    assert not torch.equal(first["sharded"], second["sharded"])
    assert torch.cat([first["sharded"], second["sharded"]]).std() == pytest.approx(math.sqrt(0.3), rel=0.15)
    assert torch.equal(first["summed"], second["summed"])
    assert first["summed"].mean() == pytest.approx(-2, abs=0.02)
    assert first["summed"].std() == pytest.approx(math.sqrt(0.3), rel=0.03)
    for name, tensor in first["fsdp"].items():
        assert torch.equal(tensor, second["fsdp"][name]), name
    assert not torch.equal(first["fsdp_noise"], second["fsdp_noise"])
