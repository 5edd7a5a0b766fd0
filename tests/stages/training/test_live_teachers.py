"""Teachers that run in a training give what their stores have: with the task's order of labels, their calibrated
temperatures and their shares."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_tasks import TINY
from training_setups import inline

from stages.corpus.rowset import read_rowset
from stages.specs.axes.data import WithGenerator
from stages.specs.axes.targets import TeacherTargets
from stages.specs.method import Method
from stages.specs.schedule import OutputRequest
from stages.specs.student import Cut, DistilSpec, Pretrained
from stages.specs.teacher import CalibrateSpec, TeachSpec
from stages.teaching.calibrate import calibrate
from stages.teaching.teach import teach
from stages.training.live_teachers import open_live_teachers
from stages.training.participants.generator.opening import open_generator
from stages.training.teachers import signal_of

ORDER = tuple(reversed(range(TINY.outputs)))
BOTH = OutputRequest(logits=((0, 0.25), (1, 0.75)))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, teacher: Path, store: Path) -> dict[str, Path]:
    """A teacher with its own order of labels, and the same one with the task's; each with its store and temperature."""
    home = tmp_path_factory.mktemp("live")
    found = {"corpus": tiny_corpus, "outputs/0": store, "live/0": teacher, "live/1": teacher}
    for number, order in ((0, None), (1, ORDER)):
        if order is not None:
            found[f"outputs/{number}"] = home / "store"
            found[f"outputs/{number}"].mkdir()
            teach(TeachSpec(label_order=order), {"corpus": tiny_corpus, "model": teacher}, home / "store", inline())
        found[f"calibration/{number}"] = home / f"calibration-{number}"
        found[f"calibration/{number}"].mkdir()
        spec = CalibrateSpec(label_order=order)
        calibrate(spec, {"corpus": tiny_corpus, "model": teacher}, found[f"calibration/{number}"], inline())
    return found


@pytest.mark.parametrize("calibrated", [False, True], ids=["as they are", "calibrated"])
@pytest.mark.parametrize("request_", [OutputRequest(logits=((1, 1.0),)), BOTH], ids=["one", "both by shares"])
def test_live_teachers_give_the_logits_of_their_stores(
    inputs: dict[str, Path], calibrated: bool, request_: OutputRequest
) -> None:
    targets = TeacherTargets(calibrated=calibrated, shares=(0.25, 0.75))
    method = Method(targets=targets, data=WithGenerator())
    spec = DistilSpec(start=Pretrained(), method=method, live_label_orders=(None, ORDER))
    rows = read_rowset(inputs["corpus"], "train")
    live = open_live_teachers(spec, inputs, "cpu")
    assert live is not None
    assert not any(model.training or any(one.requires_grad for one in model.parameters()) for model in live.models)
    numbers = np.arange(10)
    batch = rows.batch(numbers, "cpu")
    with torch.no_grad():
        found = live.logits(lambda _: batch.inputs, request_)
    signal = signal_of(spec, inputs, rows)
    stored = signal(replace(batch, read=signal.read(numbers, request_)), request_)["logits"]
    assert torch.allclose(found, stored, atol=5e-3), "the store has float16"
    if request_ is not BOTH:
        plain = open_live_teachers(spec.model_copy(update={"live_label_orders": ()}), inputs, "cpu")
        assert plain is not None
        with torch.no_grad():
            assert torch.allclose(plain.logits(lambda _: batch.inputs, request_)[:, list(ORDER)], found, atol=1e-6)


def test_a_method_without_generated_rows_opens_neither_teachers_nor_a_generator(inputs: dict[str, Path]) -> None:
    spec = DistilSpec(start=Cut(layers=(0,)), method=Method(targets=TeacherTargets()))
    assert open_live_teachers(spec, inputs, "cpu") is None and open_generator(spec, inputs) is None


def test_a_generator_whose_weights_have_no_head_that_predicts_tokens_is_refused(inputs: dict[str, Path]) -> None:
    spec = DistilSpec(start=Pretrained(), method=Method(targets=TeacherTargets(), data=WithGenerator()))
    with pytest.raises(ValueError, match=r"^generator: .* has no head that predicts masked tokens; give a masked"):
        open_generator(spec, {**inputs, "generator": inputs["live/0"]})
