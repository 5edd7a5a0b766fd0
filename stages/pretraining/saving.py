"""What every pretraining writes and returns: the model directory, its history, its curves, figures for the record."""

import json
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from stages.models.forward import count_parameters
from stages.pretraining.job import PretrainFacts
from stages.pretraining.objective import NoteEpoch, PretrainingSetup
from stages.pretraining.progress import PretrainingEpoch, PretrainingProgress
from stages.training.tensorboard import Point, curve_writer


def check_finite_weights(model: PreTrainedModel, directory: Path) -> None:
    """Raise ValueError if the first weights, made from the model in ``directory``, are not all finite."""
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise ValueError(f"{directory}: weights from here are not finite ({name}); use another model")


def curves_in(folder: Path, loss: str) -> NoteEpoch:
    """A function that writes the figures of each epoch to a TensorBoard file in ``folder``. ``loss`` names the main
    loss there."""
    write = curve_writer(folder, time.time)

    def note_epoch(epoch: PretrainingEpoch, rate: float) -> None:
        values = {f"loss/{loss}": epoch.loss, "held_out/loss": epoch.held_out.loss}
        if epoch.held_out.accuracy is not None:
            values["held_out/accuracy"] = epoch.held_out.accuracy
        values["schedule/learning_rate"] = rate
        if epoch.teacher is not None:
            values["loss/soft_targets"] = epoch.teacher.soft
            if epoch.teacher.cosine is not None:
                values["loss/last_states"] = epoch.teacher.cosine
        write(epoch.epoch, [Point(epoch.steps, epoch.seconds, values)])

    return note_epoch


def save_model(model: PreTrainedModel, out: Path, tokenizer: Path, without: Collection[str] = ()) -> Path:
    """Write ``model/`` in ``out``, with the files of ``tokenizer``, and return it. The weights called ``without`` are
    left out. ``model`` is moved to the CPU."""
    target = out / "model"
    shutil.rmtree(target, ignore_errors=True)
    nn.Module.to(model, "cpu")
    kept = {name: weights for name, weights in model.state_dict().items() if name not in without} if without else None
    model.save_pretrained(target, state_dict=kept)
    shutil.copytree(tokenizer, target, dirs_exist_ok=True)
    return target


def save_history(out: Path, progress: PretrainingProgress) -> None:
    """Write ``history.json``."""
    (out / "history.json").write_text(json.dumps(progress.as_json(), indent=1) + "\n", "utf-8")


def lineage_of(out: Path) -> Mapping[str, object]:
    """The content of ``lineage.json``, in which the runner records where the model comes from; {} without it."""
    path = out / "lineage.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def facts_of(progress: PretrainingProgress, setup: PretrainingSetup, model: PreTrainedModel) -> PretrainFacts:
    """The figures of a finished training. There is a warning if the held-out loss did not fall."""
    assert progress.before is not None
    worse = progress.score.loss >= progress.before.loss
    warning = (
        f"the held-out loss did not fall ({progress.before.loss:.3f} before, {progress.score.loss:.3f} after); train "
        "longer, or with another learning_rate"
    )
    return {
        "rows": len(setup.texts),
        "held_out_rows": len(setup.held_out),
        "steps": setup.steps,
        "texts_read": setup.spec.texts_read(len(setup.texts)),
        "train_seconds": round(progress.seconds, 3),
        "parameters": count_parameters(model),
        "before": progress.before.as_json(),
        "after": progress.score.as_json(),
        **({"warnings": [warning]} if worse else {}),
    }
