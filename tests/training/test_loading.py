"""Order is a function of seed and epoch; every sample comes once."""

import pytest
from torch import nn

from encore.base.seeds import derive_seed
from encore.training.configuration import TrainingConfiguration
from encore.training.loading import EpochBatches
from encore.training.optimisation import make_optimizer, make_schedule, parameter_groups


def indices(batches: EpochBatches) -> list[int]:
    return [index for batch in batches for _, index in batch]


def test_every_sample_comes_once_an_epoch_in_another_order_each():
    batches = EpochBatches(11, 4, seed=0)
    first = indices(batches)
    batches.set_epoch(1)
    second = indices(batches)
    assert sorted(first) == sorted(second) == list(range(11))
    assert first != second
    assert len(batches) == 3


def test_the_order_of_an_epoch_does_not_depend_on_what_ran_before():
    fresh = EpochBatches(11, 4, seed=5)
    fresh.set_epoch(7)
    used = EpochBatches(11, 4, seed=5)
    list(used)
    used.set_epoch(7)
    assert list(fresh) == list(used)


def test_a_resumed_epoch_yields_the_batches_that_are_left_and_the_next_one_all():
    whole = EpochBatches(11, 4, seed=5)
    whole.set_epoch(2)
    resumed = EpochBatches(11, 4, seed=5, start_epoch=2, start_batch=1)
    assert list(resumed) == list(whole)[1:]
    resumed.set_epoch(3)
    assert len(list(resumed)) == len(resumed) == 3


def test_a_last_batch_of_one_sample_is_left_out():
    assert [len(batch) for batch in EpochBatches(9, 4, seed=0)] == [4, 4]
    assert [len(batch) for batch in EpochBatches(1, 4, seed=0)] == [1]


def test_replicas_share_an_epoch_in_equal_parts():
    parts = [EpochBatches(10, 2, seed=0, rank=rank, num_replicas=3) for rank in range(3)]
    drawn = [indices(part) for part in parts]
    assert {len(part) for part in drawn} == {4}
    assert set().union(*drawn) == set(range(10))


def test_seeds_depend_on_every_part_and_stay_the_same():
    assert derive_seed(0, "order", 1) == derive_seed(0, "order", 1)
    assert (
        len({derive_seed(0, "order", 1), derive_seed(0, "order", 2), derive_seed(1, "order", 1), derive_seed(0)}) == 4
    )
    assert 0 <= derive_seed("x") < 2**63


def test_biases_and_norms_have_no_decay_and_biases_their_own_rate():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    configuration = TrainingConfiguration(learning_rate=0.1, weight_decay=0.01, bias_learning_rate_factor=2)
    weights, scales, biases = parameter_groups(model, configuration)
    assert [tuple(one.shape) for one in weights["params"]] == [(4, 3, 3, 3)]
    assert (weights["lr"], weights["weight_decay"]) == (0.1, 0.01)
    assert (scales["lr"], scales["weight_decay"]) == (0.1, 0.0)
    assert (biases["lr"], biases["weight_decay"]) == (0.2, 0.0)
    assert len(biases["params"]) == 2


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizers_by_name(name: str):
    optimizer = make_optimizer(nn.Linear(2, 2), TrainingConfiguration(optimizer=name))  # type: ignore[arg-type]
    assert type(optimizer).__name__.lower() == name


def test_schedules_end_low_and_a_constant_one_is_none():
    for name in ("one_cycle", "cosine"):
        configuration = TrainingConfiguration(schedule=name)  # type: ignore[arg-type]
        optimizer = make_optimizer(nn.Linear(2, 2), configuration)
        schedule = make_schedule(optimizer, configuration, 10)
        assert schedule is not None
        for _ in range(9):
            optimizer.step()
            schedule.step()
        assert optimizer.param_groups[0]["lr"] < 0.1 * configuration.learning_rate
    constant = TrainingConfiguration(schedule="constant")
    assert make_schedule(make_optimizer(nn.Linear(2, 2), constant), constant, 10) is None
