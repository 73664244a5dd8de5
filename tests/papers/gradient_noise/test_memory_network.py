"""Memory networks: the model beside a slow reading of its paper, and many that learn at once beside one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from encore.base.errors import ConfigurationError, DataError, DivergenceError
from encore.base.seeds import derive_seed
from encore.data.babi import make_story_tasks
from encore.papers.gradient_noise.memory_network import NULL, MemN2N, position_bags, respond
from encore.papers.gradient_noise.memory_network_problem import (
    Problem,
    make_problem,
    memories_with_gaps,
    memories_without_gaps,
    most_empty,
)
from encore.papers.gradient_noise.memory_network_training import (
    MemoryNetworkSettings,
    NetworkArm,
    errors_by_part,
    initial_networks,
    train_networks,
    wrong_answers,
)
from encore.training.gradient_noise import GradientNoise

CPU = torch.device("cpu")

QUIET = NetworkArm("one_stage", noise=False, stages=1)
NOISY = NetworkArm("one_stage_noise", noise=True, stages=1)
LINEAR = NetworkArm("two_stage", noise=False, stages=2)
NOISY_LINEAR = NetworkArm("two_stage_noise", noise=True, stages=2)

SETTINGS = MemoryNetworkSettings(epochs=3, linear_epochs=2)


def make_small(number: int = 1, questions: int = 80, empty_memories: float = 0.1) -> Problem:
    tasks = make_story_tasks([number], questions=questions)
    return make_problem(tasks, memory_size=50, empty_memories=empty_memories, device=CPU)


def make_sentences(*shape: int, num_words: int = 9, seed: int = 0) -> Tensor:
    """Word indices with null words at the ends of sentences, at least one word in each."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(1, num_words + 1, shape, generator=generator)
    lengths = torch.randint(1, shape[-1] + 1, shape[:-1], generator=generator)
    return words * (torch.arange(shape[-1]) < lengths[..., None])


# the model


def embedded(sentence: Tensor, table: Tensor) -> Tensor:
    """Position encoding word by word, as written: l_kj = 1 + 4 (k − (d + 1)/2) (j − (J + 1)/2) / (dJ)."""
    dim = table.shape[1]
    words = [int(word) for word in sentence if word != NULL]
    total = torch.zeros(dim)
    for j, word in enumerate(words, start=1):
        for k in range(1, dim + 1):
            weight = 1 + 4 * (k - (dim + 1) / 2) * (j - (len(words) + 1) / 2) / (dim * len(words))
            total[k - 1] += weight * table[word - 1, k - 1]
    return total


def slow_answer(network: MemN2N, statements: Tensor, question: Tensor) -> Tensor:
    """One question, sentence by sentence (sections 2 and 4.1 of the paper), adjacent weight tying."""
    words, times = network.words.detach(), network.times.detach()
    state = embedded(question, words[0])
    for hop in range(len(words) - 1):
        scores, outputs = [], []
        for place, statement in enumerate(statements):
            empty = not bool((statement != NULL).any())
            memory, output = (
                torch.zeros(words.shape[2]) if empty else embedded(statement, words[table]) + times[table, place]
                for table in (hop, hop + 1)
            )
            scores.append(state @ memory)
            outputs.append(output)
        weights = torch.stack(scores)
        if not network.linear:
            weights = weights.softmax(0)
        state = state + weights @ torch.stack(outputs)
    return words[-1] @ state


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("num_hops", [1, 3])
def test_the_network_answers_as_its_paper_says(num_hops: int, linear: bool):
    torch.manual_seed(0)
    network = MemN2N(num_words=9, num_memories=6, embed_dim=5, num_hops=num_hops)
    network.linear = linear
    with torch.no_grad():
        network.words *= 4
        network.times *= 4
    statements, questions = make_sentences(4, 6, 7), make_sentences(4, 5, seed=1)
    statements[0, 4:] = NULL
    statements[1, 2] = NULL
    logits = network(statements, questions)
    for one in range(4):
        torch.testing.assert_close(
            logits[one], slow_answer(network, statements[one], questions[one]), rtol=1e-4, atol=1e-5
        )


def test_parameters_are_one_table_more_than_there_are_hops():
    network = MemN2N(num_words=177, num_memories=50, embed_dim=50, num_hops=3)
    assert sum(one.numel() for one in network.parameters()) == 4 * (177 + 50) * 50


def test_weights_begin_with_a_deviation_of_a_tenth():
    torch.manual_seed(0)
    network = MemN2N(num_words=500, embed_dim=50)
    assert float(network.words.detach().std()) == pytest.approx(0.1, rel=0.02)
    networks = initial_networks(make_small(), SETTINGS, [0, 1], [QUIET, NOISY])
    assert float(networks.words.detach().std()) == pytest.approx(0.1, rel=0.05)
    # Arms of a seed begin alike, seeds do not.
    assert torch.equal(networks.words[:, :, 0], networks.words[:, :, 1])
    assert not torch.equal(networks.words[:, 0], networks.words[:, 1])


def test_the_attention_of_a_hop_sums_to_one():
    torch.manual_seed(0)
    answers = MemN2N(num_words=9, num_memories=6).answers(make_sentences(2, 6, 4), make_sentences(2, 4))
    torch.testing.assert_close(answers.attention.sum(-1), torch.ones(3, 1, 1, 2))


def test_null_words_at_the_end_change_nothing():
    words = make_sentences(3, 4)
    torch.testing.assert_close(position_bags(functional.pad(words, (0, 5)), 9), position_bags(words, 9))
    assert not position_bags(torch.zeros(2, 4, dtype=torch.int64), 9).any()


def test_sizes_and_words_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="num_hops is 0: give 1 or more"):
        MemN2N(num_words=9, num_hops=0)
    network = MemN2N(num_words=9, num_memories=6)
    with pytest.raises(DataError, match=r"due is \(B, 6, J\)"):
        network(make_sentences(2, 5, 4), make_sentences(2, 4))
    with pytest.raises(DataError, match="word 12 is not known: give words up to 9"):
        network(make_sentences(2, 6, 4), torch.full((2, 4), 12))


def test_many_networks_answer_as_each_alone():
    torch.manual_seed(0)
    words, times = torch.randn(4, 3, 2, 9, 5), torch.randn(4, 3, 2, 6, 5)
    memories, questions = position_bags(make_sentences(3, 4, 6, 7), 9), position_bags(make_sentences(3, 4, 7), 9)
    linear = torch.tensor([[False, True]] * 3)
    together = respond(words, times, memories, questions, linear).logits
    for seed in range(3):
        for arm in range(2):
            here, there = slice(seed, seed + 1), slice(arm, arm + 1)
            alone = respond(
                words[:, here, there], times[:, here, there], memories[here], questions[here], linear[here, there]
            )
            torch.testing.assert_close(together[seed, arm], alone.logits[0, 0], rtol=1e-4, atol=1e-4)


# memories


def test_empty_memories_come_between_statements_whose_order_stays():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 21, (400,))
    stories = torch.arange(1, 21).expand(400, -1) * (torch.arange(20) < lengths[:, None])
    placed = memories_with_gaps(stories, lengths, 22, 0.1, generator)
    gaps = []
    for row, length in zip(placed.tolist(), lengths.tolist(), strict=True):
        assert [one for one in row if one] == list(range(1, length + 1))
        last = max(place for place, one in enumerate(row) if one)
        gaps.append(last + 1 - length)
        assert gaps[-1] <= most_empty(length, 0.1)
    assert max(gaps) == 2
    assert torch.equal(memories_with_gaps(stories, lengths, 22, 0.0, generator), memories_without_gaps(stories, 22))


def test_the_oldest_statements_are_forgotten():
    stories = torch.arange(1, 9)[None]
    assert memories_without_gaps(stories, 5).tolist() == [[1, 2, 3, 4, 5]]
    assert memories_without_gaps(stories[:, :3], 5).tolist() == [[1, 2, 3, 0, 0]]
    problem = make_problem(make_story_tasks([1], questions=40), memory_size=4, empty_memories=0.1, device=CPU)
    assert problem.num_memories == 4
    assert problem.parts["train"].stories.shape[1] == 4


# learning


def test_a_step_is_clipping_then_noise_then_plain_descent():
    """The first epoch of many networks beside one with PyTorch's SGD under `GradientNoise`."""
    problem, settings = (
        make_small(empty_memories=0.0),
        SETTINGS.model_copy(update={"empty_memories": 0.0, "epochs": 1, "max_gradient_norm": 5.0}),
    )
    ensemble = train_networks(problem, settings, [0, 7], [QUIET, NOISY])
    part = problem.parts["train"]
    for column, arm in enumerate((QUIET, NOISY)):
        start = initial_networks(problem, settings, [7], [arm])
        network = MemN2N(len(problem.words), problem.num_memories)
        with torch.no_grad():
            network.words.copy_(start.words[:, 0, 0])
            network.times.copy_(start.times[:, 0, 0])
        optimizer: torch.optim.Optimizer = torch.optim.SGD(network.parameters(), lr=settings.learning_rate)
        if arm.noise:
            seed = derive_seed(7, "memory network", problem.name, "noise")
            optimizer = GradientNoise(optimizer, eta=settings.eta, gamma=settings.gamma, seed=seed)
        generator = torch.Generator().manual_seed(derive_seed(7, "memory network", problem.name, "epoch", 0))
        order = torch.randperm(len(part), generator=generator)[: len(part) // 32 * 32]
        for chosen in order.split(32):
            logits = respond(
                network.words[:, None, None],
                network.times[:, None, None],
                problem.bags[memories_without_gaps(part.stories[chosen], problem.num_memories)][None],
                problem.bags[part.questions[chosen]][None],
            ).logits[0, 0]
            optimizer.zero_grad()
            functional.cross_entropy(logits, part.answers[chosen], reduction="sum").backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.max_gradient_norm)
            optimizer.step()
        torch.testing.assert_close(ensemble.words[:, 1, column], network.words, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ensemble.times[:, 1, column], network.times, rtol=1e-4, atol=1e-5)


def test_a_network_does_not_depend_on_those_that_learn_beside_it():
    problem = make_small()
    together = train_networks(problem, SETTINGS, [0, 1], [NOISY, QUIET, NOISY_LINEAR, LINEAR])
    alone = train_networks(problem, SETTINGS, [1], [NOISY_LINEAR])
    torch.testing.assert_close(together.words[:, 1, 2], alone.words[:, 0, 0], rtol=1e-4, atol=1e-5)
    assert not torch.equal(together.words[:, 1, 2], together.words[:, 1, 3])


def test_the_linear_stage_ends_and_the_learning_rate_begins_anew():
    problem = make_small()
    stages = []
    train_networks(
        problem, SETTINGS, [0], [QUIET, LINEAR], after_epoch=lambda networks: stages.append(networks.linear.tolist())
    )
    assert stages == [[[False, True]], [[False, False]], [[False, False]]]


def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encore.papers.gradient_noise.memory_network_training.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    problem, arms = make_small(), [NOISY, LINEAR]
    whole = train_networks(problem, SETTINGS, [0], arms)
    checkpoint = tmp_path / "networks.safetensors"

    def kill(networks: object) -> None:
        if checkpoint.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_networks(problem, SETTINGS, [0], arms, checkpoint=checkpoint, after_epoch=kill)
    with safe_open(checkpoint, framework="pt") as file:
        seconds_before = float(file.metadata()["seconds"])
    epochs = []
    continued = train_networks(
        problem,
        SETTINGS,
        [0],
        arms,
        checkpoint=checkpoint,
        after_epoch=lambda networks: epochs.append(networks.epoch),
    )
    assert epochs == [2, 3]
    assert continued.seconds > seconds_before > 0
    assert torch.equal(whole.words, continued.words)
    assert torch.equal(whole.times, continued.times)
    assert continued.curves == whole.curves


def test_a_checkpoint_of_other_networks_is_left_aside(tmp_path: Path):
    path = tmp_path / "networks.safetensors"
    path.write_bytes(b"no tensors")
    problem = make_small()
    assert train_networks(problem, SETTINGS, [0], [QUIET], checkpoint=path).epoch == 3


def test_a_network_learns_where_people_are():
    problem = make_small(questions=600)
    settings = MemoryNetworkSettings(epochs=40)
    networks = train_networks(problem, settings, [0, 1], [NOISY, QUIET])
    errors = errors_by_part(networks, problem)
    assert float(errors["test"][1].min()) < 10
    assert float(errors["train"][1].min()) < 5
    # Curves end with what was measured.
    last = networks.curves[1][0][-1]
    assert last["epoch"] == 40
    assert last["validation_error"] == pytest.approx(float(errors["validation"][1][0, 1]))


def test_errors_are_those_of_each_question(monkeypatch: pytest.MonkeyPatch):
    problem = make_small()
    networks = initial_networks(problem, SETTINGS, [0, 1], [QUIET, LINEAR])
    whole = wrong_answers(networks, problem, problem.parts["test"])
    monkeypatch.setattr("encore.papers.gradient_noise.memory_network_training._QUESTIONS_AT_ONCE", 7)
    assert torch.equal(whole, wrong_answers(networks, problem, problem.parts["test"]))
    assert whole.shape == (2, 2, 80)


def test_a_loss_that_is_no_number_is_said_in_one_line():
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30, "max_gradient_norm": 1e30})
    with pytest.raises(DivergenceError, match="lower the learning rate"):
        train_networks(make_small(), settings, [0], [QUIET])


def test_tasks_that_are_learnt_together_share_words_and_have_errors_of_their_own():
    tasks = make_story_tasks([1, 2], questions=80)
    problem = make_problem(tasks, memory_size=50, empty_memories=0.1, device=CPU)
    assert problem.name == "joint"
    networks = initial_networks(problem, SETTINGS, [0], [QUIET])
    assert networks.words.shape[-1] == 50
    errors = errors_by_part(networks, problem)
    assert set(errors["test"]) == {1, 2}
    alone = replace(problem, tasks=(2,))
    assert torch.equal(errors_by_part(networks, alone)["test"][2], errors["test"][2])
