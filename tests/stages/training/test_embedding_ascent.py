"""FreeLB and adversarial training: each step against a plain loop of torch, and the identities at radius zero."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training_setups import (
    CLASSES,
    HARD,
    NUMBER,
    VANILLA,
    LocalWorker,
    equal_weights,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
)

from stages.corpus.rowset import Batch
from stages.specs.axes.data import Adversarial, FreeLB
from stages.specs.axes.kinds import CLASSIFICATION
from stages.specs.axes.terms import teacher_term
from stages.specs.axes.training import Position
from stages.specs.method import Method
from stages.specs.schedule import OutputRequest, terms_at
from stages.specs.tasks import Task
from stages.training.loop import Training, fit
from stages.training.participants.embedding_ascent import FreeLBAscent

ALL = np.arange(26)


def with_data(method: Method, data: FreeLB | Adversarial) -> Method:
    return method.model_copy(update={"data": data})


def gradients_of_one_step(method: Method, task: Task, folder: Path, **train: object) -> dict[str, Tensor]:
    """The gradients of a single step on all 26 rows, clipped at a length that none reaches."""
    found: dict[str, Tensor] = {}
    model = small_bert(task)

    def keep(*_: object) -> None:
        found.update({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})

    hook = register_optimizer_step_pre_hook(keep)
    spec = spec_of(method, epochs=1, batch_size=26, max_grad_norm=1e9, **train)
    fit(model, setup_of(spec, task, folder / "none.pt", signal_for(method, task), 1e9), LocalWorker())
    hook.remove()
    return found


class Reference:
    """The rows of a step and their loss, without the project's loop."""

    def __init__(self, method: Method, task: Task) -> None:
        setup = setup_of(spec_of(method), task, Path("none.pt"), signal_for(method, task))
        self.model = small_bert(task)
        self.batch: Batch = setup.train.batch(ALL, "cpu")
        self.mask = self.batch.inputs["attention_mask"]
        self.embeds = self.model.get_input_embeddings()
        self.task = task
        request = OutputRequest(((0, 1.0),))
        self.teacher = setup.signal.read(ALL, request).get("logits") if method.needs_teacher else None

    def losses(self, perturbation: Tensor) -> tuple[Tensor, Tensor]:
        """[26], [26]: the labels' loss and the whole loss of each row, tau 3 and w 0.7."""
        inputs_embeds = self.embeds(self.batch.inputs["input_ids"]) + perturbation
        logits = self.model(inputs_embeds=inputs_embeds, attention_mask=self.mask).logits
        labels = self.batch.labels
        hard = (
            (logits[:, 0] - labels).square()
            if self.task.regression
            else functional.cross_entropy(logits, labels, reduction="none")
        )
        if self.teacher is None:
            return hard, hard
        if self.task.regression:
            return hard, 0.3 * hard + 0.7 * (logits - self.teacher).square().mean(-1)
        target = functional.softmax(self.teacher / 3, -1)
        soft = 9 * functional.kl_div(functional.log_softmax(logits / 3, -1), target, reduction="none").sum(-1)
        return hard, 0.3 * hard + 0.7 * soft

    def zeros(self) -> Tensor:
        return torch.zeros(*self.mask.shape, 16)

    def gradients(self) -> dict[str, Tensor]:
        return {name: one.grad for name, one in self.model.named_parameters() if one.grad is not None}


def unit(gradient: Tensor) -> Tensor:
    return torch.stack([row / row.norm() for row in gradient])


def assert_equal_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("method", "task"), [(HARD, CLASSES), (VANILLA, CLASSES), (VANILLA, NUMBER)])
def test_a_step_of_freelb_is_the_mean_over_ascents_of_zhu_et_al(method: Method, task: Task, tmp_path: Path) -> None:
    reference = Reference(method, task)
    perturbation = reference.zeros()
    for _ in range(3):
        leaf = perturbation.clone().requires_grad_(True)
        loss = reference.losses(leaf)[1]
        (gradient,) = torch.autograd.grad(loss.sum(), leaf, retain_graph=True)
        (loss.mean() / 3).backward()
        moved = perturbation + 0.5 * unit(gradient)
        perturbation = torch.stack([row * min(1.0, 0.7 / float(row.norm())) for row in moved])
    data = FreeLB(steps=3, rate=0.5, start=0.0, max_norm=0.7)
    assert_equal_gradients(gradients_of_one_step(with_data(method, data), task, tmp_path), reference.gradients())


@pytest.mark.parametrize(("method", "task"), [(HARD, CLASSES), (VANILLA, CLASSES), (VANILLA, NUMBER)])
def test_an_adversarial_step_ascends_the_labels_loss_alone_and_averages_both_losses(
    method: Method, task: Task, tmp_path: Path
) -> None:
    reference = Reference(method, task)
    leaf = reference.zeros().requires_grad_(True)
    labels, whole = reference.losses(leaf)
    (gradient,) = torch.autograd.grad(labels.sum(), leaf, retain_graph=True)
    (whole.mean() / 2).backward()
    (reference.losses(0.8 * unit(gradient))[1].mean() / 2).backward()
    found = gradients_of_one_step(with_data(method, Adversarial(length=0.8)), task, tmp_path)
    assert_equal_gradients(found, reference.gradients())


@pytest.mark.parametrize("data", [FreeLB(steps=2, rate=0.0, start=0.0), Adversarial(length=0.0)])
@pytest.mark.parametrize("method", [HARD, VANILLA], ids=["hard", "vanilla"])
def test_with_radius_zero_the_student_is_that_of_plain_training_bit_for_bit(
    data: FreeLB | Adversarial, method: Method, tmp_path: Path
) -> None:
    """With dropout, too: all forms of a batch have the masks that its single pass has in plain training."""
    models = []
    for number, one in enumerate((method, with_data(method, data))):
        models.append(small_bert(CLASSES, dropout=0.1))
        fit(
            models[-1],
            setup_of(spec_of(one), CLASSES, tmp_path / f"{number}.pt", signal_for(one, CLASSES)),
            LocalWorker(),
        )
    assert equal_weights(models[0].state_dict(), models[1].state_dict())


def test_a_perturbation_raises_the_loss_and_its_length_is_bounded_and_recorded(tmp_path: Path) -> None:
    method = with_data(HARD, FreeLB(steps=3, rate=0.4, start=0.1, max_norm=0.5))
    place = LocalWorker()
    progress = fit(small_bert(CLASSES), setup_of(spec_of(method), CLASSES, tmp_path / "checkpoint.pt"), place)
    for epoch in progress.history:
        entry = epoch.participants["freelb"]
        assert 0.4 < entry["mean_length"] <= 0.5 + 1e-6 and entry["mean_rise"] > 0
        assert epoch.as_json()["freelb"] == entry
    assert any("perturbations 0." in note and "raise the loss by" in note for note in place.notes)


def test_the_first_perturbation_is_random_within_its_bound_and_leaves_padding_alone(tmp_path: Path) -> None:
    method = with_data(HARD, FreeLB(start=0.3))
    training = Training(small_bert(CLASSES), setup_of(spec_of(method), CLASSES, tmp_path / "none.pt"), LocalWorker())
    (ascent,) = training.participants
    assert isinstance(ascent, FreeLBAscent)
    batch = training.setup.train.batch(ALL, "cpu")
    first, again, other = (ascent.start(batch, Position(epoch=epoch)) for epoch in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    alone = ascent.start(training.setup.train.batch(ALL[5:7], "cpu"), Position(epoch=1))
    assert torch.equal(alone, first[5:7, : alone.shape[1]]), "that of a row does not depend on the others of its batch"
    tokens = batch.inputs["attention_mask"].sum(1)
    bounds = 0.3 / (tokens * 16).sqrt()
    assert (first.abs() <= bounds[:, None, None]).all() and first.abs().amax() > 0.9 * bounds.min()
    assert (first[batch.inputs["attention_mask"] == 0] == 0).all()


def test_no_teacher_model_is_needed_because_each_form_is_compared_with_the_stored_logits() -> None:
    method = with_data(VANILLA, FreeLB())
    assert method.needs_logits and not method.needs_candidates
    term = teacher_term(terms_at(method, Position(), 3, CLASSIFICATION))
    assert term is not None and term.weight == 0.7


def test_an_ascent_without_a_gradient_stays_where_it_is(tmp_path: Path) -> None:
    """A worker without rows of its own reads a placeholder row, whose loss has the factor 0."""
    method = with_data(HARD, FreeLB(start=0.0))
    training = Training(small_bert(CLASSES), setup_of(spec_of(method), CLASSES, tmp_path / "none.pt"), LocalWorker())
    (ascent,) = training.participants
    assert isinstance(ascent, FreeLBAscent)
    nothing = torch.zeros(2, 3, 16)
    assert torch.equal(ascent.moved(nothing, nothing), nothing)
    assert isinstance(training.model, nn.Module)
