"""A generator adversary: its draws, its step against plain torch, its turns, and what runs on which rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny import packaged_model
from torch import Tensor, nn
from training_setups import (
    ANNEALING,
    CLASSES,
    GENERATED,
    NUMBER,
    SPECIAL,
    WORDS,
    LocalWorker,
    Weights,
    equal_weights,
    max_difference,
    setup_of,
    signal_for,
    small_bert,
    small_generator,
    spec_of,
)

from stages.corpus.rowset import Batch
from stages.models.masked.token_ids import TokenIds
from stages.specs.axes.data import Contrast, WithGenerator
from stages.specs.axes.kinds import CLASSIFICATION
from stages.specs.axes.terms import SoftTerm, SquaredTerm
from stages.specs.axes.training import OnePhase, Position
from stages.specs.method import Method
from stages.specs.schedule import epoch_plan
from stages.specs.tasks import Task
from stages.training.loop import Training
from stages.training.objective.relations import Workers
from stages.training.participants.generator.adversary import GeneratorAdversary, generator_objective
from stages.training.participants.generator.gumbel import (
    Places,
    chosen_in_row,
    drawn_tokens,
    forbidden_tokens,
    gumbel_noise,
    straight_through,
    writable,
)
from stages.training.participants.generator.rows_table import GeneratedRow
from stages.training.participants.protocol import StepSize
from stages.training.turns import Turns

TOKENS = small_generator().tokens
DATA = GENERATED.data
assert isinstance(DATA, WithGenerator)
PLAN = epoch_plan(GENERATED, Position(), 3, CLASSIFICATION)


def with_data(method: Method, **changes: object) -> Method:
    return method.model_copy(update={"data": DATA.model_copy(update=changes)})


def training_of(method: Method, task: Task, folder: Path, **train: object) -> Training:
    setup = setup_of(spec_of(method, **train), task, folder / "none.pt", signal_for(method, task), 1e9)
    return Training(small_bert(task), setup, LocalWorker())


def adversary_of(training: Training) -> GeneratorAdversary:
    (found,) = training.participants
    assert isinstance(found, GeneratorAdversary)
    return found


def trained(method: Method, folder: Path, **train: object) -> Weights:
    """The weights of a student after its training by ``method``, in which no checkpoint is written."""
    training = training_of(method, CLASSES, folder, **train)
    training.run()
    return training.model.state_dict()


# --- draws --------------------------------------------------------------------------------------------------


def test_a_place_is_chosen_with_the_given_probability_and_never_at_a_special_token() -> None:
    ids = np.full(15, 5)
    ids[0], ids[7] = 1, 2
    columns = np.concatenate([chosen_in_row(ids, 0.3, TOKENS, seed).columns for seed in range(400)])
    assert not {0, 7} & set(columns.tolist())
    assert len(columns) / (400 * 13) == pytest.approx(0.3, abs=0.03)
    assert not len(chosen_in_row(ids, 0.0, TOKENS, 1).columns)
    assert len(chosen_in_row(ids, 1.0, TOKENS, 1).columns) == 13


def test_the_places_of_a_row_in_a_batch_follow_from_the_row_alone(tmp_path: Path) -> None:
    adversary = adversary_of(training_of(GENERATED, CLASSES, tmp_path))
    rows = adversary.parts.setup.train
    whole, alone = rows.batch(np.arange(8), "cpu"), rows.batch(np.array([5]), "cpu")
    width = whole.inputs["input_ids"].shape[1]
    places, own = adversary.places(whole), adversary.places(alone)
    assert width > alone.inputs["input_ids"].shape[1], "the row is padded in the batch"
    in_row = places.flat // width == 5
    assert np.array_equal(places.flat[in_row] % width, own.flat)
    assert np.array_equal(places.uniform[in_row], own.uniform)
    assert places.by_row == np.bincount(places.flat // width, minlength=8).tolist()
    assert np.array_equal(
        places.flat, adversary.places(whole, adversary.prepare(whole.rows, PLAN, lambda batch: batch)).flat
    )


def test_tokens_are_drawn_with_the_probabilities_of_the_softmax_and_no_special_token_is() -> None:
    torch.manual_seed(0)
    logits = writable(torch.randn(1, WORDS + 3), forbidden_tokens(TOKENS))
    uniform = torch.from_numpy(np.random.default_rng(0).random(40_000))
    drawn = drawn_tokens(logits.expand(40_000, -1), uniform)
    frequencies = torch.bincount(drawn, minlength=WORDS) / 40_000
    assert torch.allclose(frequencies, logits.softmax(-1)[0], atol=0.01)
    assert not set(SPECIAL) & set(drawn.tolist())


def test_a_number_that_is_rounded_to_one_draws_a_token_that_may_be_written() -> None:
    logits = torch.zeros(1, 4)
    logits[0, 3] = float("-inf")
    assert drawn_tokens(logits, torch.tensor([np.nextafter(1.0, 0.0)], dtype=torch.float64)).tolist() == [2]


def test_ids_beyond_the_vocabulary_are_not_written() -> None:
    gaps = TokenIds(6, np.array([0, 1]), np.array([2, 4, 6]))
    logits = writable(torch.zeros(2, 9), forbidden_tokens(gaps))
    assert (logits[0] == 0).tolist() == [False, False, True, False, True, False, True]


def test_the_largest_logit_with_gumbel_noise_has_the_distribution_of_the_softmax() -> None:
    """So the student's turn, which draws by one uniform number, reads what the generator's own turn writes."""
    torch.manual_seed(1)
    logits = writable(torch.randn(1, WORDS + 3), forbidden_tokens(TOKENS))
    noise = gumbel_noise([25_000, 15_000], WORDS, [1, 2], "cpu")
    frequencies = torch.bincount((logits + noise).argmax(-1), minlength=WORDS) / 40_000
    assert torch.allclose(frequencies, logits.softmax(-1)[0], atol=0.01)


def test_the_noise_of_a_row_depends_on_its_own_seed_alone() -> None:
    whole = gumbel_noise([3, 0, 2], WORDS, [4, 5, 6], "cpu")
    assert torch.equal(whole[3:], gumbel_noise([2], WORDS, [6], "cpu"))


def test_the_straight_through_choice_is_one_hot_and_its_gradient_is_that_of_the_softmax() -> None:
    """At a low temperature the softmax is nearly one-hot, so that finite differences of an objective of the softmax
    have the gradient that straight-through gives: it differs from it in the place alone at which the objective is
    taken."""
    torch.manual_seed(2)
    tokens, temperature = 6, 0.2
    logits = torch.randn(3, tokens, dtype=torch.float64)
    logits[:, 1] = logits[:, 0] + 0.05  # two that are nearly level have a gradient at a low temperature, too
    noise = torch.zeros_like(logits)
    table, weights = torch.randn(tokens, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def objective(choice: Tensor) -> Tensor:
        return (choice @ table @ weights).sum()  # linear, so that it does not matter where its gradient is taken

    leaf = logits.clone().requires_grad_(True)
    choice = straight_through(leaf, noise, temperature)
    assert torch.allclose(choice.detach(), nn.functional.one_hot(logits.argmax(-1), tokens).double(), atol=1e-12)
    objective(choice).backward()
    assert leaf.grad is not None and leaf.grad.abs().max() > 0.1
    step = 1e-6
    for place in np.ndindex(*logits.shape):
        moved = torch.zeros_like(logits)
        moved[place] = step
        soft = [objective(((logits + sign * moved) / temperature).softmax(-1)) for sign in (1, -1)]
        assert float(leaf.grad[place]) == pytest.approx(float(soft[0] - soft[1]) / (2 * step), abs=1e-6)


# --- its own turn -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [CLASSES, NUMBER], ids=lambda task: task.name)
@pytest.mark.parametrize("objective", ["divergence", "cross-entropy"])
def test_the_generators_gradient_is_that_of_plain_torch_with_one_hot_products(
    task: Task, objective: str, tmp_path: Path
) -> None:
    """The reference multiplies the whole table of each model by one-hot vectors, and lets autograd do the rest."""
    method = with_data(GENERATED, objective=objective)
    method = method.model_copy(update={"training": OnePhase(temperature=3.0, teacher_weight=0.5)})
    training = training_of(method, task, tmp_path)
    adversary = adversary_of(training)
    plan = epoch_plan(method, Position(), 3, task.kind)
    batch = training.setup.train.batch(np.arange(8), "cpu")
    places = adversary.places(batch)
    adversary.model.eval()
    found = adversary.objective(batch, places, plan, len(batch.rows))
    parameters = list(adversary.model.parameters())
    gradients = torch.autograd.grad(found.sum(), parameters, allow_unused=True)

    flat = torch.from_numpy(places.flat)
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    masked = ids.flatten().clone()
    masked[flat] = WORDS - 1
    logits = adversary.model.model(input_ids=masked.view_as(ids), attention_mask=mask).logits.reshape(-1, WORDS)[flat]
    logits = logits.clone()
    logits[:, list(SPECIAL)] = float("-inf")
    noise = gumbel_noise(places.by_row, WORDS, [adversary.seed_of_row(row) for row in range(8)], "cpu")
    soft = (logits + noise).softmax(-1)
    one_hot = nn.functional.one_hot(soft.argmax(-1), WORDS).float()
    choice = one_hot + soft - soft.detach()
    outputs = []
    for model in (training.model, adversary.teachers.models[0]):
        whole = nn.functional.one_hot(ids, WORDS).float().reshape(-1, WORDS).index_copy(0, flat, choice)
        embeds = (whole @ model.get_input_embeddings().weight).view(*ids.shape, -1)  # type: ignore[operator]
        outputs.append(model(inputs_embeds=embeds, attention_mask=mask).logits)
    student, teacher = outputs
    if task.regression:
        expected = (student - teacher).square().mean(-1)
    else:
        soft_teacher, soft_student = (teacher / 3).softmax(-1), (student / 3).log_softmax(-1)
        expected = -9 * (soft_teacher * soft_student).sum(-1)
        if objective == "divergence":
            expected = expected + 9 * (soft_teacher * (teacher / 3).log_softmax(-1)).sum(-1)
    assert torch.allclose(found, expected, atol=1e-5)
    for mine, theirs in zip(gradients, torch.autograd.grad(expected.sum(), parameters, allow_unused=True), strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert torch.allclose(mine, theirs, atol=1e-5)


def test_an_objective_without_a_softmax_has_no_entropy_to_add() -> None:
    student, teacher, data = (
        torch.randn(4, 3),
        torch.randn(4, 3),
        DATA.model_copy(update={"objective": "cross-entropy"}),
    )
    squared = SquaredTerm(1.0, 0.5)
    assert torch.equal(generator_objective(squared, student, teacher, data), squared.distance(student, teacher))
    soft = SoftTerm(1.0, 2.0, "mean")
    summed = SoftTerm(1.0, 2.0)
    assert torch.allclose(
        3 * generator_objective(soft, student, teacher, data), generator_objective(summed, student, teacher, data)
    )


def test_turns_of_its_own_raise_the_distance_and_leave_student_and_teacher_alone(tmp_path: Path) -> None:
    training = training_of(with_data(GENERATED, learning_rate=3e-2), CLASSES, tmp_path)
    adversary = adversary_of(training)
    plan = epoch_plan(GENERATED, Position(), 3, CLASSIFICATION)
    batch = training.setup.train.batch(np.arange(26), "cpu")
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    teacher = {name: value.clone() for name, value in adversary.teachers.models[0].state_dict().items()}

    def raised() -> float:
        with torch.no_grad():
            return float(adversary.objective(batch, adversary.places(batch), plan, 26).mean())

    first = raised()
    for _ in range(160):
        adversary.take_turn([batch], None, StepSize(26, 1.0), plan, 1.0)
    assert raised() > 1.2 * first
    assert equal_weights(before, training.model.state_dict())
    assert equal_weights(teacher, adversary.teachers.models[0].state_dict())
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_the_gradient_of_a_turn_is_that_of_the_mean_over_all_rows_in_one_pass_or_several(tmp_path: Path) -> None:
    found = []
    for sizes in ([26], [9, 9, 8]):
        training = training_of(GENERATED, CLASSES, tmp_path)
        adversary = adversary_of(training)
        starts = np.cumsum([0, *sizes])
        batches = [training.setup.train.batch(np.arange(a, b), "cpu") for a, b in pairwise(starts)]
        plan = epoch_plan(GENERATED, Position(), 3, CLASSIFICATION)
        kept: list[dict[str, Tensor]] = []
        adversary._step = lambda _, kept=kept, model=adversary.model: kept.append(  # type: ignore[method-assign, misc]
            {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
        )
        adversary.take_turn(batches, None, StepSize(26, 1.0), plan, 1.0)
        found.append(kept[0])
        whole = training.setup.train.batch(np.arange(26), "cpu")
        mean = adversary.objective(whole, adversary.places(whole), plan, 26).mean()
        for name, parameter in adversary.model.named_parameters():
            (expected,) = torch.autograd.grad(mean, parameter, retain_graph=True, allow_unused=True)
            if expected is not None:
                assert torch.allclose(kept[0][name], expected, atol=1e-6)
    assert found[0].keys() == found[1].keys() and max_difference(found[0], found[1]) < 1e-6


# --- turns --------------------------------------------------------------------------------------------------


def test_the_learning_rates_of_both_rise_and_fall_over_their_own_steps() -> None:
    turns = Turns(np.array([True, True, False, False, False, True, True, False]))
    assert [turns.factor(step, 0.25) for step in (2, 3, 4, 7)] == [1.0, 1.0, 2 / 3, 1 / 3]
    assert [turns.factor(step, 0.0) for step in (0, 1, 5, 6)] == [1.0, 0.75, 0.5, 0.25]
    assert turns.student_rate(4, 0.25) == turns.student_rate(3 + 1, 0.25) == 1.0
    assert turns.student_rate(7, 0.25) == 2 / 3 and turns.student_rate(8, 0.25) == 1 / 3
    batches = [np.arange(4), np.arange(4, 7)]
    assert [len(rows) for rows in turns.student_batches(2, batches)] == [4, 0]


def test_the_student_is_trained_in_its_own_turns_alone_and_counts_their_rows(tmp_path: Path) -> None:
    """26 rows in batches of 4 are 7 steps an epoch; turns of 2 and 3 steps over 2 epochs."""
    training = training_of(GENERATED, CLASSES, tmp_path, epochs=2)
    trained: list[bool] = []
    take, step = training._turn, training.step.run
    training._turn = lambda *given: (trained.append(False), take(*given))[1]  # type: ignore[method-assign]
    training.step.run = lambda *given: (trained.append(True), step(*given))[1]  # type: ignore[method-assign]
    training.run()
    assert trained == [number % 5 >= 2 for number in range(14)]
    entries = [epoch.participants["generated"] for epoch in training.progress.history]
    assert 4 * sum(trained) - 4 <= sum(entry["rows"] for entry in entries) <= 4 * sum(trained), "the last batch has 2"
    assert all(0 < entry["changed_tokens"] <= 1 and 0 <= entry["agreement"] <= 1 for entry in entries)


def test_what_an_epoch_had_no_turn_for_is_left_out_of_its_entry(tmp_path: Path) -> None:
    """Epochs of 7 steps, in turns of 7 and 14: the first epoch is the generator's, the others the student's."""
    training = training_of(with_data(GENERATED, generator_steps=7, student_steps=14), CLASSES, tmp_path, epochs=3)
    training.run()
    first, second, _ = training.progress.history
    assert first.loss is None and second.loss is not None and second.loss > 0
    entries = [epoch.participants["generated"] for epoch in (first, second)]
    assert entries[0]["rows"] == 0 and entries[0]["agreement"] is None and entries[0]["objective"] > 0
    assert entries[1]["rows"] == 26 and entries[1]["objective"] is None


def test_a_regression_has_no_agreement(tmp_path: Path) -> None:
    training = training_of(GENERATED, NUMBER, tmp_path, epochs=1)
    training.run()
    assert training.progress.history[0].participants["generated"]["agreement"] is None


def test_a_training_without_a_step_for_the_student_is_refused(tmp_path: Path) -> None:
    training = training_of(with_data(GENERATED, generator_steps=50), CLASSES, tmp_path, epochs=3)
    with pytest.raises(ValueError, match="each of the 21 steps of phase train is a generator's turn"):
        training.run()


def test_without_a_teachers_term_the_generator_takes_no_part(tmp_path: Path) -> None:
    """The second phase of annealing has labels alone: no generated row, and no turn."""
    method = ANNEALING.model_copy(update={"data": DATA})
    training = training_of(method, CLASSES, tmp_path, epochs=4)
    training.run()
    taking_part = ["generated" in epoch.participants for epoch in training.progress.history]
    assert taking_part == [True, True, False, False]
    assert not training.turns.own.any()


# --- what runs ----------------------------------------------------------------------------------------------


@contextmanager
def counted(model: nn.Module) -> Iterator[dict[str, list[int]]]:
    """The rows of each forward pass of a model, by whether gradients are computed, and of its backward passes."""
    found: dict[str, list[int]] = {"forward": [], "with gradients": [], "backward": []}

    def forward_hook(_module: nn.Module, _given: object, output: object) -> None:
        logits = output.logits  # type: ignore[attr-defined]
        found["with gradients" if logits.requires_grad else "forward"].append(len(logits))
        if logits.requires_grad:
            logits.register_hook(lambda gradient: found["backward"].append(len(gradient)))

    hook = model.register_forward_hook(forward_hook)
    yield found
    hook.remove()


def test_the_teacher_runs_once_on_the_generated_rows_of_each_step_and_never_on_rows_as_they_are(tmp_path: Path) -> None:
    training = training_of(GENERATED, CLASSES, tmp_path, epochs=2)
    adversary = adversary_of(training)
    teacher, write = adversary.teachers.models[0], adversary.generated
    weights = {name: value.clone() for name, value in teacher.state_dict().items()}
    modes: list[bool] = []
    read: list[Tensor] = []
    written: list[Tensor] = []

    def keep(module: nn.Module, _given: object, named: dict[str, Tensor]) -> None:
        modes.append(module.training)
        if "inputs_embeds" not in named:
            read.append(named["input_ids"])

    def generated(batch: Batch, places: Places) -> dict[str, Tensor]:
        found = write(batch, places)
        written.append(found["input_ids"])
        return found

    adversary.generated = generated  # type: ignore[method-assign]
    hook = teacher.register_forward_pre_hook(keep, with_kwargs=True)
    with counted(teacher) as found:
        training.run()
    hook.remove()
    assert len(read) == len(written) and all(map(torch.equal, read, written)), "what the generator wrote, once"
    own = sum(number % 5 < 2 for number in range(14))
    assert len(found["forward"]) == 14 - own, "one pass in each of the student's steps, without gradients"
    assert len(found["with gradients"]) == len(found["backward"]) == own, "backward in the generator's steps alone"
    assert modes == [False] * 14
    assert equal_weights(weights, teacher.state_dict())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


def test_with_nothing_masked_it_is_vanilla_kd_on_two_copies(tmp_path: Path) -> None:
    """(1 - 1/3) (CE / 2 + KD / 2) + KD / 3 = CE / 3 + 2 KD / 3, where the live teacher gives what the store has."""
    two = with_data(GENERATED, mask=0.0, generator_steps=0)
    one = Method(targets=two.targets, training=OnePhase(temperature=1.0, teacher_weight=2 / 3))
    weights = [trained(method, tmp_path) for method in (one, two)]
    assert max_difference(*weights) < 1e-5


def test_annealing_with_nothing_masked_is_annealing_on_two_copies(tmp_path: Path) -> None:
    """1/2 MSE + 1/2 MSE, and labels alone in the second phase: Combined KD without an adversary."""
    two = ANNEALING.model_copy(
        update={"data": DATA.model_copy(update={"mask": 0.0, "generator_steps": 0, "share": 0.5})}
    )
    weights = [trained(method, tmp_path, epochs=4) for method in (ANNEALING, two)]
    assert max_difference(*weights) < 1e-5


def test_terms_are_recorded_as_means_over_all_rows_of_the_student(tmp_path: Path) -> None:
    training = training_of(with_data(GENERATED, mask=0.0, generator_steps=0), CLASSES, tmp_path, epochs=1)
    kept: list[dict[str, list[float]]] = []
    finish = training._finish_epoch
    training._finish_epoch = lambda *given: (  # type: ignore[method-assign]
        kept.append(training.layout.by_name(training.progress.sums)),
        finish(*given),
    )[1]
    training.run()
    sums = {name: values[0] for name, values in kept[0].items()}
    assert sums["term/soft"] == pytest.approx(sums["term/generated"], rel=1e-5)
    expected = (sums["term/hard"] + sums["term/soft"]) / 2 * (2 / 3) + sums["term/generated"] / 3
    assert sums["loss"] == pytest.approx(expected, rel=1e-5)


# --- labels and a contrast of layers ------------------------------------------------------------------------

CILDA = with_data(GENERATED, labels=2 / 3, contrast=Contrast(width=5, temperature=2.0))


def test_the_contrast_is_info_nce_of_the_joined_layers(tmp_path: Path) -> None:
    """Against NumPy, without the project's pooling, normalisation and cross-entropy."""
    adversary = adversary_of(training_of(CILDA, CLASSES, tmp_path))
    contrast = adversary.contrast
    assert contrast is not None
    torch.manual_seed(3)
    student, teacher = ([torch.randn(4, 6, 16) for _ in range(3)] for _ in range(2))
    found = contrast(student, teacher, torch.ones(4, 6), Workers(rows=4)).detach().numpy()
    vectors = []
    for states, projection in ((student, contrast.of_student), (teacher, contrast.of_teacher)):
        first = np.concatenate([state[:, 0].numpy() for state in states[1:]], axis=1)
        projected = first @ projection.weight.detach().numpy().T + projection.bias.detach().numpy()
        vectors.append(projected / np.linalg.norm(projected, axis=1, keepdims=True))
    similar = np.exp(vectors[0] @ vectors[1].T / 2.0)
    expected = -np.log(np.diag(similar) / similar.sum(1))
    assert np.allclose(found, expected, atol=1e-5)


def test_turns_with_a_contrast_raise_it_by_the_generator_and_lower_it_by_the_projections(tmp_path: Path) -> None:
    def after(generator_rate: float, projection_rate: float) -> float:
        method = with_data(CILDA, learning_rate=generator_rate, contrast=Contrast(share=1.0, width=8, pooling="mean"))
        training = training_of(method, CLASSES, tmp_path, learning_rate=projection_rate)
        adversary = adversary_of(training)
        plan, batch = (
            epoch_plan(method, Position(), 3, CLASSIFICATION),
            training.setup.train.batch(np.arange(26), "cpu"),
        )
        for _ in range(40):
            adversary.take_turn([batch], None, StepSize(26, 1.0), plan, 1.0)
        with torch.no_grad():
            return float(adversary.objective(batch, adversary.places(batch), plan, 26).mean())

    start, raised, lowered = after(1e-12, 1e-12), after(3e-2, 1e-12), after(1e-12, 3e-2)
    assert raised > start + 0.01 and lowered < start - 0.01


def test_a_generated_row_keeps_the_label_of_its_row_with_its_share(tmp_path: Path) -> None:
    """With nothing masked: 2/3 (CE + KD) / 2 + 1/3 (2/3 CE + 1/3 KD)."""
    two = with_data(GENERATED, mask=0.0, generator_steps=0, labels=2 / 3)
    one = Method(targets=two.targets, training=OnePhase(temperature=1.0, teacher_weight=1 / 3 + 1 / 9))
    weights = [trained(method, tmp_path) for method in (one, two)]
    assert max_difference(*weights) < 1e-5


# --- the table of generated rows ----------------------------------------------------------------------------


def test_rows_before_and_after_the_generator_are_written_with_what_both_models_give_them(
    tmp_path: Path,
) -> None:
    training = training_of(with_data(GENERATED, mask=1.0), CLASSES, tmp_path)
    adversary = adversary_of(training)
    adversary.write_files(tmp_path, training.model, packaged_model())
    rows = [GeneratedRow(**row) for row in pq.read_table(tmp_path / "generated.parquet").to_pylist()]
    assert len(rows) == 20 and training.model.training
    batch = training.setup.train.batch(np.arange(20), "cpu")
    with torch.no_grad():
        teacher = adversary.teachers.models[0](**batch.inputs).logits.softmax(-1)
        student = training.model.eval()(**batch.inputs).logits.softmax(-1)
    for number, row in enumerate(rows):
        label = int(batch.labels[number])
        assert (row.row, row.label) == (number, "abc"[label])
        assert row.teacher_before == pytest.approx(float(teacher[number, label]), abs=1e-5)
        assert row.student_before == pytest.approx(float(student[number, label]), abs=1e-5)
        assert row.generated != row.original
    assert any(row.teacher_before != row.teacher_after for row in rows)
