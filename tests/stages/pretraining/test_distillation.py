"""A masked language model that another one teaches: DistilBERT's losses against NumPy and against its code."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from masked_trainings import TOKENS, WORDS, masked_setup, results, small_masked_model
from torch import nn
from training_setups import Interrupted, LocalWorker, equal_weights
from transformers import BertForMaskedLM

from stages.corpus.batches import epoch_batches
from stages.pretraining.distillation import MaskedTeacher, cosine_losses, soft_losses
from stages.pretraining.loop import MaskedTraining, PretrainingSetup, fit_masked_model
from stages.pretraining.masking import MaskedBatch, masked_batch
from stages.specs.pretraining import MaskedDistillation
from stages.specs.seeds import seed_of

GENERATOR = np.random.Generator(np.random.PCG64(8))
DISTILBERT = MaskedDistillation()


def random(*shape: int) -> torch.Tensor:
    return torch.from_numpy(GENERATOR.normal(size=shape).astype(np.float32))


def teacher_model() -> BertForMaskedLM:
    return small_masked_model(seed=7, layers=3)


def taught_setup(checkpoint: Path, seconds: float = 0.5, **spec: object) -> PretrainingSetup:
    return masked_setup(checkpoint, seconds, teacher_model(), **{"distillation": DISTILBERT, **spec})


# --- the losses -------------------------------------------------------------------------------------


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_the_soft_loss_is_the_divergence_at_the_temperature_times_its_square() -> None:
    student, teacher = random(9, 13), random(9, 13)
    p, q = (softmax(values.double().numpy() / 2) for values in (teacher, student))
    np.testing.assert_allclose(soft_losses(student, teacher, 2.0), 4 * (p * np.log(p / q)).sum(1), rtol=1e-4)


def test_the_soft_loss_compares_the_tokens_that_both_models_have() -> None:
    student, teacher = random(9, 13), random(9, 16)
    torch.testing.assert_close(soft_losses(student, teacher, 2.0), soft_losses(student, teacher[:, :13], 2.0))
    torch.testing.assert_close(soft_losses(teacher, student, 2.0), soft_losses(teacher[:, :13], student, 2.0))


def test_the_cosine_loss_is_that_of_torch_with_the_target_one() -> None:
    student, teacher = random(9, 6), random(9, 6)
    lengths = student.norm(dim=1) * teacher.norm(dim=1)
    found = cosine_losses(student, teacher)
    np.testing.assert_allclose(found, 1 - ((student * teacher).sum(1) / lengths).numpy(), rtol=1e-4, atol=1e-6)
    expected = nn.CosineEmbeddingLoss(reduction="mean")(student, teacher, torch.ones(9))
    torch.testing.assert_close(found.mean(), expected)


# --- a step -----------------------------------------------------------------------------------------


def losses_as_in_the_code(
    student: BertForMaskedLM, teacher: BertForMaskedLM, batch: MaskedBatch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(soft, masked, cosine) of a batch, as the released code of DistilBERT computes them (``Distiller.step``)."""
    inputs, labels = batch.inputs, torch.full(batch.inputs["input_ids"].shape, -100)
    labels.view(-1)[batch.places] = batch.targets
    own = student(**inputs, output_hidden_states=True)
    with torch.no_grad():
        other = teacher(**inputs, output_hidden_states=True)
    mask = inputs["attention_mask"].bool().unsqueeze(-1).expand_as(own.logits)
    s_logits = torch.masked_select(own.logits, mask).view(-1, own.logits.size(-1))
    t_logits = torch.masked_select(other.logits, mask).view(-1, own.logits.size(-1))
    divergence = nn.KLDivLoss(reduction="batchmean")
    soft = divergence((s_logits / 2).log_softmax(-1), (t_logits / 2).softmax(-1)) * 2**2
    masked = nn.CrossEntropyLoss(ignore_index=-100)(own.logits.view(-1, own.logits.size(-1)), labels.view(-1))
    s_states, t_states = own.hidden_states[-1], other.hidden_states[-1]
    mask = inputs["attention_mask"].bool().unsqueeze(-1).expand_as(s_states)
    s_chosen = torch.masked_select(s_states, mask).view(-1, s_states.size(-1))
    t_chosen = torch.masked_select(t_states, mask).view(-1, s_states.size(-1))
    cosine = nn.CosineEmbeddingLoss(reduction="mean")(s_chosen, t_chosen, torch.ones(len(s_chosen)))
    return soft, masked, cosine


def test_a_step_follows_5_soft_2_masked_and_1_cosine_as_the_code_of_distilbert_does(tmp_path: Path) -> None:
    setup = taught_setup(tmp_path / "c.pt", steps=1, batch_size=26, max_grad_norm=1e9)
    training = MaskedTraining(small_masked_model(dropout=0.0), setup, LocalWorker())
    found: dict[str, torch.Tensor] = {}

    def keep(*_: object) -> None:
        found.update({name: weights.grad.clone() for name, weights in training.model.named_parameters()})

    training.optimizer.register_step_pre_hook(keep)
    training.run()
    (rows,) = epoch_batches(setup.texts.costs, 26, seed_of(0, 0))
    batch = masked_batch(setup.texts, rows, setup.spec.masking, TOKENS, seed_of(0, 0, 0))
    model, teacher = small_masked_model(dropout=0.0), teacher_model().eval()
    soft, masked, cosine = losses_as_in_the_code(model, teacher, batch)
    (5 * soft + 2 * masked + 1 * cosine).backward()
    for name, weights in model.named_parameters():
        torch.testing.assert_close(found[name], weights.grad, rtol=1e-4, atol=1e-6, msg=name)
    (epoch,) = training.progress.history
    assert epoch.teacher is not None and epoch.loss == pytest.approx(masked.item(), rel=1e-5)
    found = (epoch.teacher.soft, epoch.teacher.cosine)
    assert found == pytest.approx((soft.item(), cosine.item()), rel=1e-5)


def test_the_teacher_reads_without_dropout_and_is_not_changed(tmp_path: Path) -> None:
    setup = taught_setup(tmp_path / "c.pt")
    assert setup.teacher is not None
    before = {name: value.clone() for name, value in setup.teacher.state_dict().items()}
    fit_masked_model(small_masked_model(), setup, LocalWorker())
    assert equal_weights(before, setup.teacher.state_dict()) and not setup.teacher.training
    assert all(weights.grad is None for weights in setup.teacher.parameters())


def test_a_teachers_prediction_has_no_gradient_and_is_the_same_twice() -> None:
    teacher = MaskedTeacher(teacher_model().train(), "cpu", "float32")
    inputs = {"input_ids": torch.arange(12).reshape(2, 6) % WORDS, "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    first, second = (teacher(inputs, torch.tensor([1, 7])) for _ in range(2))
    assert torch.equal(first.logits, second.logits) and torch.equal(first.states, second.states)
    assert not first.logits.requires_grad and not first.states.requires_grad


def test_models_of_two_widths_are_compared_by_their_probabilities_alone(tmp_path: Path) -> None:
    narrow = DISTILBERT.model_copy(update={"cosine": 0.0})
    setup = masked_setup(tmp_path / "c.pt", teacher=small_masked_model(7, width=32), distillation=narrow)
    progress = fit_masked_model(small_masked_model(), setup, LocalWorker())
    distances = [epoch.teacher for epoch in progress.history]
    assert all(distance is not None and distance.cosine is None for distance in distances)
    first, *_, last = (distance.soft for distance in distances if distance is not None)
    assert last < first
    assert "cosine" in progress.as_json()["epochs"][0]["teacher"]


def test_a_student_comes_nearer_to_its_teacher_than_without_one(tmp_path: Path) -> None:
    """At the tokens of all texts, with nothing masked."""
    teacher = teacher_model().eval()

    def distance(model: BertForMaskedLM) -> float:
        setup = masked_setup(tmp_path / "none.pt")
        rows = np.arange(26)
        inputs = {
            "input_ids": torch.from_numpy(setup.texts.examples.tokens.padded(rows, 0)),
            "attention_mask": torch.from_numpy(setup.texts.examples.tokens.mask(rows)),
        }
        with torch.no_grad():
            own, other = (one.eval()(**inputs).logits[inputs["attention_mask"] == 1] for one in (model, teacher))
        return float(soft_losses(own, other, 1.0).mean())

    taught, alone = small_masked_model(), small_masked_model()
    fit_masked_model(taught, taught_setup(tmp_path / "taught.pt", epochs=6), LocalWorker())
    fit_masked_model(alone, masked_setup(tmp_path / "alone.pt", epochs=6), LocalWorker())
    assert distance(taught) < 0.8 * distance(alone)


# --- interrupted and resumed ------------------------------------------------------------------------


def cut_at(number: int) -> Callable[[int], None]:
    def check(reached: int) -> None:
        if reached == number:
            raise Interrupted

    return check


def test_a_taught_training_that_was_interrupted_twice_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = small_masked_model()
    uncut = fit_masked_model(whole, taught_setup(tmp_path / "uncut.pt", 1e9), LocalWorker())
    for number in (4, 8):
        with pytest.raises(Interrupted):
            fit_masked_model(small_masked_model(), taught_setup(tmp_path / "cut.pt"), LocalWorker(cut_at(number)))
    resumed, last = small_masked_model(seed=5), LocalWorker()
    progress = fit_masked_model(resumed, taught_setup(tmp_path / "cut.pt"), last)
    assert last.notes[0] == "goes on from epoch 2, step 3"
    assert equal_weights(resumed.state_dict(), whole.state_dict())
    assert results(progress) == results(uncut)
    assert [epoch.teacher for epoch in progress.history] == [epoch.teacher for epoch in uncut.history]
