"""General distillation: the distance from a teacher's stored states against NumPy, interrupted and resumed, and by two
workers."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from state_trainings import small_encoder, state_setup, state_training, states_of
from training_setups import FORKSERVER, Interrupted, LocalWorker, equal_weights, max_difference

from stages.pretraining.progress import PretrainingProgress
from stages.pretraining.state_objective import StateObjective
from stages.specs.layers import AnnealedTemperature, Attend, Concatenate, Pick, Random, Relational
from stages.specs.pretraining import PooledStates, PretrainSpec

PAIRS = ((0, 0), (1, 2), (2, 4))
KINDS: dict[str, PooledStates] = {
    "pick": Pick(pairs=PAIRS),
    "concatenate": Concatenate(groups=((1, 2), (3, 4))),
    "attend": Attend(groups=((1, 2), (3, 4)), temperature="learned", scaled=True),
    "random": Random(layers=(1, 2, 3, 4), student_layers=(1, 2), width=8),
    "relational": Relational(pair=(2, 4)),
}

TOLERANCE = 5e-5
"""The greatest difference of a weight between one worker and two, after 12 steps at up to 3e-3: AdamW scales
rounding errors of gradients that are nearly 0 up to parts of a step."""


def results(progress: PretrainingProgress) -> list[tuple[int, int, float, float]]:
    """(epoch, steps, loss, held-out loss) of each epoch."""
    return [(epoch.epoch, epoch.steps, epoch.loss, epoch.held_out.loss) for epoch in progress.history]


def teacher_of(width: int = 16) -> torch.nn.Module:
    return small_encoder(seed=7, layers=4, width=width)


# --- the loss ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("teacher_pooling", [None, "mean", "cls"])
@pytest.mark.parametrize("width", [16, 24])
def test_the_loss_is_the_mean_squared_error_of_states_of_any_pooling_projected_where_widths_differ(
    pooling: str, teacher_pooling: str | None, width: int, tmp_path: Path
) -> None:
    states = Pick(pairs=PAIRS, pooling=pooling, teacher_pooling=teacher_pooling)
    setup = state_setup(tmp_path / "c.pt", states, teacher_of(width), batch_size=26, steps=1)
    training = state_training(small_encoder(dropout=0.0), setup)
    matcher = training.objective.student.matcher
    own = {name: value.clone().double().numpy() for name, value in matcher.state_dict().items()}
    assert len(own) == (0 if width == 16 else 6)
    training.run()
    for texts, found in (
        (setup.held_out, training.progress.before.loss),
        (setup.texts, training.progress.history[0].loss),
    ):
        student, teacher = states_of(small_encoder(dropout=0.0), texts), states_of(teacher_of(width), texts)
        errors = []
        for place, (layer, other) in enumerate(PAIRS):
            state = student[layer, pooling]
            if own:
                state = state @ own[f"student.{place}.weight"].T + own[f"student.{place}.bias"]
            errors.append(((state - teacher[other, teacher_pooling or pooling]) ** 2).mean(1))
        assert found == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_model_that_follows_itself_layer_by_layer_has_no_loss_at_the_start(layer: int, tmp_path: Path) -> None:
    states = Pick(pairs=((layer, layer),))
    setup = state_setup(tmp_path / "c.pt", states, small_encoder(), steps=1)
    assert state_training(small_encoder(), setup).held_out_score().loss == pytest.approx(0.0, abs=1e-9)


def test_the_weight_scales_the_gradient_and_not_the_loss_that_is_reported(tmp_path: Path) -> None:
    first, second = small_encoder(dropout=0.0), small_encoder(dropout=0.0)
    histories, gradients = [], []
    for model, weight in ((first, 1.0), (second, 3.0)):
        states = Pick(pairs=PAIRS, weight=weight)
        setup = state_setup(tmp_path / f"{weight}", states, teacher_of(), steps=1, max_grad_norm=1e9)
        training = state_training(model, setup)
        kept: list[torch.Tensor] = []
        training.optimizer.register_step_pre_hook(
            lambda *_, model=model, kept=kept: kept.append(model.embeddings.word_embeddings.weight.grad.clone())
        )
        training.run()
        histories.append(training.progress.history[0].loss)
        gradients.append(kept[0])
    assert histories[0] == pytest.approx(histories[1], rel=1e-6)
    torch.testing.assert_close(3 * gradients[0], gradients[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_held_out_loss_falls_with_each_kind_of_structure(kind: str, tmp_path: Path) -> None:
    setup = state_setup(tmp_path / "c.pt", KINDS[kind], teacher_of(), epochs=6)
    training = state_training(small_encoder(), setup)
    training.run()
    assert training.progress.before.accuracy is None
    assert training.progress.score.loss < training.progress.before.loss
    first, *_, last = (epoch.loss for epoch in training.progress.history)
    assert last < 0.8 * first
    assert set(training.progress.as_json()["epochs"][0]["held_out"]) == {"loss"}


def test_a_training_in_bfloat16_has_nearly_the_losses_of_one_in_float32(tmp_path: Path) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        setup = state_setup(tmp_path / precision, KINDS["pick"], teacher_of(), precision=precision)
        training = state_training(small_encoder(), setup)
        training.run()
        found.append([epoch.held_out.loss for epoch in training.progress.history])
    assert found[1] == pytest.approx(found[0], rel=0.03) and found[0] != found[1]


def test_parameters_without_a_gradient_stay_as_they_are_and_all_others_move(tmp_path: Path) -> None:
    """The pooler, and the second layer where the first is the highest that is compared."""
    model, before = small_encoder(), small_encoder().state_dict()
    state_training(model, state_setup(tmp_path / "c.pt", Pick(pairs=((1, 4),)), teacher_of(), steps=3)).run()
    unused = {name for name in before if name.startswith(("pooler", "encoder.layer.1"))}
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == unused


def test_held_out_losses_of_several_epochs_are_of_the_same_layers_and_temperature(tmp_path: Path) -> None:
    """Nothing is trained, so that they are equal."""
    annealed = Attend(groups=((1, 2), (3, 4)), temperature=AnnealedTemperature(annealed=9.0))
    for name, states in (("random", KINDS["random"]), ("annealed", annealed)):
        setup = state_setup(tmp_path / name, states, teacher_of(), learning_rate=1e-30, weight_decay=0.0)
        training = state_training(small_encoder(), setup)
        training.run()
        assert len({epoch.held_out.loss for epoch in training.progress.history}) == 1


# --- interrupted and resumed ------------------------------------------------------------------------


def cut_at(number: int) -> Callable[[int], None]:
    def check(reached: int) -> None:
        if reached == number:
            raise Interrupted

    return check


@pytest.mark.parametrize("kind", ["attend", "random"])
def test_a_training_that_was_interrupted_twice_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    teacher = teacher_of(24)
    whole = state_training(small_encoder(), state_setup(tmp_path / "uncut.pt", KINDS[kind], teacher, 1e9))
    whole.run()
    for number in (4, 8):
        worker = LocalWorker(cut_at(number))
        with pytest.raises(Interrupted):
            state_training(small_encoder(), state_setup(tmp_path / "cut.pt", KINDS[kind], teacher), worker).run()
    last = LocalWorker()
    resumed = state_training(small_encoder(seed=5), state_setup(tmp_path / "cut.pt", KINDS[kind], teacher), last)
    resumed.run()
    assert last.notes[0] == "goes on from epoch 2, step 3" and last.restored == 26 + 12
    for name, part in resumed.objective.parts.items():
        own = part.state_dict()
        assert equal_weights(own, whole.objective.parts[name].state_dict()) and own
    assert results(resumed.progress) == results(whole.progress)
    assert resumed.progress.before == whole.progress.before


def test_a_checkpoint_of_a_masked_language_model_is_not_taken_for_one_of_states(tmp_path: Path) -> None:
    from masked_trainings import masked_setup, small_masked_model

    from stages.pretraining.loop import fit_masked_model

    fit_masked_model(small_masked_model(), masked_setup(tmp_path / "c.pt"), LocalWorker())
    worker = LocalWorker()
    state_training(small_encoder(), state_setup(tmp_path / "c.pt", KINDS["pick"], teacher_of(), steps=1), worker).run()
    assert worker.notes[0].startswith("starts over: c.pt is a checkpoint with the parts ['model', 'optimizer']")


# --- two workers ------------------------------------------------------------------------------------

TOGETHER = ("pick", "attend", "random", "relational")
WITHOUT_EFFECT = ("key.bias", "layer.1.output.LayerNorm.bias")
"""The ends of the names of weights on which relations between rows do not depend: an attention softmax is the same with
any key bias, and distances with any shift of the last states. Their gradients are rounding errors, which AdamW scales
up to whole steps."""


def fit(kind: str, checkpoint: Path, worker: LocalWorker) -> tuple[StateObjective, list[tuple[int, int, float, float]]]:
    """A training with an odd number of rows in the last batch of each epoch, and a projection but for relations."""
    setup = state_setup(checkpoint, KINDS[kind], teacher_of(24), epochs=2, batch_size=5)
    training = state_training(small_encoder(dropout=0.0), setup, worker)
    training.run()
    return training.objective, results(training.progress)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=2)
    for kind in TOGETHER:
        objective, history = fit(kind, Path(folder) / f"{kind}-{rank}.pt", LocalWorker(rank=rank, world_size=2))
        torch.save((objective.student.state_dict(), history), f"{folder}/{kind}-ended-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_workers_end_with_the_weights_of_one(tmp_path: Path) -> None:
    other = FORKSERVER.Process(target=work, args=(1, str(tmp_path)))
    other.start()
    work(0, str(tmp_path))
    other.join()
    assert other.exitcode == 0
    for kind in TOGETHER:
        (weights, history), (others, _) = (torch.load(tmp_path / f"{kind}-ended-{rank}.pt") for rank in (0, 1))
        assert equal_weights(weights, others)
        single, own = fit(kind, tmp_path / f"{kind}.pt", LocalWorker())
        without = WITHOUT_EFFECT if kind == "relational" else ()
        compared = {name: value for name, value in weights.items() if not name.endswith(without)}
        assert len(compared) == len(weights) - (3 if without else 0)
        assert max_difference(compared, {name: single.student.state_dict()[name] for name in compared}) < TOLERANCE
        for one, two in zip(history, own, strict=True):
            assert one == pytest.approx(two, rel=1e-4)


# --- the spec ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"states": Pick(pairs=PAIRS, weight="auto")}, "states.weight: auto is measured against the labels' loss"),
        ({"states": Pick()}, "states: a rule names other layers"),
        ({"states": Pick(pairs=PAIRS), "masking": {"share": 0.3}}, "no token is masked beside it"),
        ({"states": Pick(pairs=PAIRS), "distillation": {}}, "no token is masked beside it"),
    ],
)
def test_a_spec_that_mixes_two_objectives_or_has_an_open_rule_is_refused(
    fields: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        PretrainSpec(**fields)
