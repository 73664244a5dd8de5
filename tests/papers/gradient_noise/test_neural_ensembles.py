"""Ensembles: members share nothing but the batched products that they are computed with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from encore.base.seeds import derive_seed
from encore.papers.gradient_noise.neural_ensembles import (
    Batch,
    Draws,
    EnsembleModel,
    Member,
    Problem,
    Schedule,
    add_member_noise_,
    clip_members_,
    train_ensemble,
)
from encore.papers.gradient_noise.neural_gpu_tasks import GPUProblem
from encore.papers.gradient_noise.neural_ram_tasks import RAMProblem
from encore.training.gradient_noise import GradientNoise

CPU = torch.device("cpu")
SCHEDULE = Schedule(steps=12, batch_size=8, learning_rate=0.01, clip=0.5, evaluate_every=4, advance_every=4)


def problem(**changes: object) -> RAMProblem:
    settings = {"size": 5, "length": 3, "hops": 0, "held_out": 32, "curriculum": True, "timesteps": 2, "hidden": 8}
    return RAMProblem("access", **(settings | changes))


def test_a_member_learns_the_same_alone_and_in_company():
    members = [Member(3, noise=0.3), Member(3), Member(8, noise=1.0), Member(9)]
    together = train_ensemble(problem(), members, SCHEDULE, device=CPU)
    for place, member in enumerate(members):
        alone = train_ensemble(problem(), [member], SCHEDULE, device=CPU)
        assert alone.errors["test"][0] == pytest.approx(together.errors["test"][place], abs=1e-6)


def test_a_member_learns_as_with_adam_behind_gradient_noise():
    task = problem(curriculum=False)
    member = Member(5, noise=0.3)
    model = task.model([5])
    optimiser = GradientNoise(torch.optim.Adam(model.parameters(), lr=0.01), 0.3, seed=5)
    for step in range(SCHEDULE.steps):
        generator = torch.Generator().manual_seed(derive_seed(5, "samples", step))
        batch = task.together([task.samples(generator, SCHEDULE.batch_size, 0)])
        optimiser.zero_grad()
        model.loss(batch, torch.zeros(1, dtype=torch.int64), step, Draws([member], step, CPU))[0].sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), SCHEDULE.clip)
        optimiser.step()
    held_out = {name: value[None] for name, value in task.held_out("val").items()}
    found = train_ensemble(task, [member], SCHEDULE, device=CPU).curves[-1]["error"][0]
    assert found == pytest.approx(float(model.errors(held_out)), abs=1e-4)


def test_arms_of_one_seed_start_alike_and_others_do_not():
    model = problem().model([1, 1, 2])
    for parameter in model.parameters():
        assert torch.equal(parameter[0], parameter[1])
        assert not torch.equal(parameter[0], parameter[2])


def test_each_member_is_clipped_by_its_own_norm():
    gradients = [torch.randn(3, 4, 5), torch.randn(3, 7) * 0.01]
    gradients[0][1] *= 1e-3
    before = [one.clone() for one in gradients]
    norms = clip_members_(gradients, 0.5)
    for place in range(3):
        expected = [one[place].clone() for one in before]
        for one in expected:
            one.grad = one.clone()
        assert norms[place] == pytest.approx(float(torch.nn.utils.clip_grad_norm_(expected, 0.5)))
        for one, reference in zip(gradients, expected, strict=True):
            assert torch.allclose(one[place], reference.grad, atol=1e-6)


def test_a_gradient_that_is_not_finite_moves_only_its_member_nowhere():
    gradients = [torch.ones(2, 3), torch.ones(2, 2)]
    gradients[0][0, 1] = math.nan
    clip_members_(gradients, 100.0)
    assert not gradients[0][0].any()
    assert not gradients[1][0].any()
    assert torch.equal(gradients[0][1], torch.ones(3))


@pytest.mark.parametrize(("step", "variance"), [(0, 0.3), (100, 0.3 / 101**0.55)])
def test_noise_has_the_papers_variance_and_spares_members_without(step: int, variance: float):
    gradients = [torch.zeros(2, 300, 300), torch.zeros(2, 100)]
    add_member_noise_(gradients, [Member(0, noise=0.3), Member(1)], step, 0.55)
    assert float(gradients[0][0].var()) == pytest.approx(variance, rel=0.02)
    assert not gradients[0][1].any()


def test_dropout_masks_keep_the_mean_and_are_shared_by_a_seed():
    kept = Draws([Member(1, dropout=0.25), Member(1), Member(2, dropout=0.25)], 0, CPU).keep(100, 100)
    assert kept is not None
    assert float(kept[0].mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(kept[1], torch.ones(100, 100))
    assert not torch.equal(kept[0], kept[2])
    assert Draws([Member(1)], 0, CPU).keep(3) is None


def test_a_killed_training_continues_to_the_same_end(tmp_path: Path):
    members = [Member(0, noise=0.3), Member(1, dropout=0.1)]
    whole = train_ensemble(problem(), members, SCHEDULE, device=CPU)

    def kill(step: int, error: float) -> None:
        if step == 8:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "ensemble.ckpt"
    with pytest.raises(KeyboardInterrupt):
        train_ensemble(problem(), members, SCHEDULE, device=CPU, checkpoint=checkpoint, report=kill, seconds_between=-1)
    assert checkpoint.is_file()
    resumed = train_ensemble(problem(), members, SCHEDULE, device=CPU, checkpoint=checkpoint)
    assert (resumed.errors, resumed.curves, resumed.steps) == (whole.errors, whole.curves, whole.steps)


def test_longer_inputs_of_other_members_change_no_dropout():
    task = GPUProblem("addition", digits=4, long_digits=4, held_out=8, maps=4, width=2, sets=2)
    members = [Member(seed, dropout=0.1) for seed in range(3)]
    schedule = SCHEDULE.model_copy(update={"steps": 8, "advance_every": 1, "advance_below": 1e9})
    together = train_ensemble(task, members, schedule, device=CPU)
    alone = [train_ensemble(task, [member], schedule, device=CPU).curves for member in members]
    for place in range(len(members)):
        found = [row["error"][0] for row in alone[place]]
        assert found == pytest.approx([row["error"][place] for row in together.curves], abs=1e-6)


def test_a_longer_mask_begins_like_a_shorter_one():
    lengths = torch.tensor([2.0, 8.0])[:, None, None]
    short, long = (Draws([Member(1, dropout=0.2)] * 2, 5, CPU).keep(n, 50, scale=2 / lengths) for n in (60, 80))
    assert short is not None
    assert long is not None
    assert torch.equal(short, long[:, :60])
    assert [float((mask == 0).float().mean()) for mask in long] == pytest.approx([0.2, 0.05], abs=0.02)


@pytest.mark.parametrize("patient", [False, True])
def test_what_is_judged_by_longer_numbers_is_trained_to_the_end(patient: bool):
    task = GPUProblem("copy", digits=1, long_digits=2, held_out=8, patient=patient, maps=6, width=1, sets=1)
    schedule = SCHEDULE.model_copy(update={"steps": 200, "learning_rate": 0.02, "clip": 10.0})
    outcome = train_ensemble(task, [Member(0)], schedule, device=CPU)
    solved = [row["step"][0] for row in outcome.curves if row["error"] == [0.0]]
    assert solved
    assert outcome.steps == (200 if patient else solved[0])


class Counter(EnsembleModel):
    """Grows by every step, and is as good as ever on one part; its error on the other tells how far it has come."""

    def __init__(self) -> None:
        super().__init__([0])
        self.count = self.constant(0.0, 1)

    def loss(self, batch: Batch, stages: Tensor, step: int, draws: Draws) -> tuple[Tensor, Tensor]:
        return -self.count[:, 0], stages.float()

    def errors(self, batch: Batch) -> Tensor:
        return torch.where(batch["told"][:, 0], self.count[:, 0], 0.5)


class Counting(Problem):
    """What a counter is trained on."""

    def model(self, seeds: Sequence[int]) -> Counter:
        return Counter()

    def samples(self, generator: torch.Generator, count: int, stage: int) -> Batch:
        return {"told": torch.zeros(count, dtype=torch.bool)}

    def held_out(self, part: str) -> Batch:
        return {"told": torch.tensor([part == "test"])}


@pytest.mark.parametrize(("patient", "kept"), [(False, 4), (True, 12)])
def test_of_equally_good_steps_the_first_is_kept_or_the_last_by_the_patient(patient: bool, kept: int):
    task = Counting()
    task.patient = patient
    outcome = train_ensemble(task, [Member(0)], SCHEDULE, device=CPU)
    assert outcome.errors["test"][0] == pytest.approx(kept * SCHEDULE.learning_rate, rel=0.01)
