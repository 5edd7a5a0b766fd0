"""What every pretraining writes and returns: the model directory, its history, its curves, figures for the record."""

import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from stages.cards.student import read_lineage
from stages.models.forward import count_parameters
from stages.pretraining.job import PretrainFacts
from stages.pretraining.objective import NoteEpoch, PretrainingSetup
from stages.pretraining.progress import PretrainingEpoch, PretrainingProgress
from stages.training.tensorboard import Point, curve_writer


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


def save_model(
    model: PreTrainedModel,
    out: Path,
    tokenizer: Path,
    progress: PretrainingProgress,
    card: Callable[[int, Mapping[str, object]], str],
    without: Collection[str] = (),
) -> None:
    """Write ``model/`` in ``out``, with the files of ``tokenizer`` and the model card, which ``card`` makes from the
    number of parameters and the content of ``lineage.json``; and ``history.json``. The weights called ``without`` are
    left out. ``model`` is moved to the CPU."""
    target = out / "model"
    shutil.rmtree(target, ignore_errors=True)
    nn.Module.to(model, "cpu")
    kept = {name: weights for name, weights in model.state_dict().items() if name not in without} if without else None
    model.save_pretrained(target, state_dict=kept)
    shutil.copytree(tokenizer, target, dirs_exist_ok=True)
    (out / "history.json").write_text(json.dumps(progress.as_json(), indent=1) + "\n", "utf-8")
    (target / "README.md").write_text(card(count_parameters(model), read_lineage(out)), "utf-8")


def facts_of(
    progress: PretrainingProgress, setup: PretrainingSetup, model: PreTrainedModel, further: Sequence[str] = ()
) -> PretrainFacts:
    """The figures of a finished training, with a warning if the held-out loss did not fall, and ``further`` ones."""
    assert progress.before is not None
    worse = progress.score.loss >= progress.before.loss
    warning = (
        f"the held-out loss did not fall ({progress.before.loss:.3f} before, {progress.score.loss:.3f} after); train "
        "longer, or with another learning_rate"
    )
    warnings = [*([warning] if worse else []), *further]
    return {
        "rows": len(setup.texts),
        "held_out_rows": len(setup.held_out),
        "steps": setup.steps,
        "texts_read": setup.spec.texts_read(len(setup.texts)),
        "train_seconds": round(progress.seconds, 3),
        "parameters": count_parameters(model),
        "before": progress.before.as_json(),
        "after": progress.score.as_json(),
        **({"warnings": warnings} if warnings else {}),
    }
