"""The stage ``calibrate``: the temperature of a teacher, found on the held-out rows of its task."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.resources import On, Worker
from stages.corpus.reader import read_meta
from stages.specs.tasks import HOLDOUT
from stages.specs.teacher import CalibrateSpec
from stages.teaching.temperature import (
    HIGHEST,
    LOWEST,
    Calibration,
    fit_temperature,
    write_calibration,
)


@dataclass(frozen=True, slots=True)
class CalibrationJob:
    """What a worker needs to calibrate a model."""

    spec: CalibrateSpec
    model: Path
    corpus: Path


def calibrate(spec: CalibrateSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, object]:
    """Inputs: ``corpus``, ``model``. Writes ``calibration.json``. Returns the fields of ``Calibration``, with a warning
    where the held-out rows do not determine the temperature. ValueError for a regression, and for a corpus without
    held-out rows."""
    meta = read_meta(inputs["corpus"])
    if not meta.task.kind.has_classes:
        raise ValueError(f"targets.calibrated: {meta.task.name} is a regression, which has no probabilities")
    if HOLDOUT not in meta.splits:
        raise ValueError("targets.calibrated: true, but data.holdout is 0; hold some rows out, or leave it out")
    on.expect(meta.splits[HOLDOUT].rows, "rows")
    job = CalibrationJob(spec, inputs["model"], inputs["corpus"])
    ((_, found),) = on.map(open_calibration, job, [HOLDOUT])
    write_calibration(out, found)
    return {**asdict(found), **_warning(found, on)}


def _warning(found: Calibration, on: On) -> dict[str, object]:
    """``{"warnings": [...]}``, which is also logged, where the rows do not determine the temperature; else {}."""
    if not found.at_bound:
        return {}
    warning = (
        f"targets.calibrated: {found.rows:,} held-out rows do not determine the teacher's temperature, which is set to "
        f"{found.temperature:.4g} ({LOWEST:g} to {HIGHEST:g} are tried); hold more out (data.holdout), or leave "
        "calibrated out"
    )
    on.log(warning)
    return {"warnings": [warning]}


def open_calibration(job: CalibrationJob, worker: Worker) -> Callable[[str], Calibration]:
    """A function that calibrates the model on a split. Heavy modules are imported here, where a stage starts."""
    import torch

    from stages.corpus.rowset import read_rowset
    from stages.models.by_task import load
    from stages.models.predict import finite_or_raise, predict

    torch.set_num_threads(worker.threads)
    model: torch.nn.Module = load(job.model)
    model = model.to(worker.device).eval()
    task, order = read_meta(job.corpus).task, job.spec.label_order

    def calibrate_on(split: str) -> Calibration:
        rows = read_rowset(job.corpus, split)
        logits = predict(model, rows, task.outputs, worker.device, precision=job.spec.compute, decided=False)
        finite_or_raise(logits, rows.label_keys, f"the teacher's logits on {split}")
        worker.advance(len(rows))
        labelled = rows.labelled_places
        ordered = logits if order is None else logits[:, list(order)]
        return fit_temperature(ordered[labelled], rows.labels.numpy()[labelled])

    return calibrate_on
