"""``stillhouse glue`` and ``stillhouse glue-check``: a submission to the GLUE leaderboard is written, or checked."""

import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.last_sets import resolve_built
from pipeline.cli.models.find_model import FoundModel, built_model, model_name
from pipeline.cli.models.prediction_table import progress_bar
from pipeline.cli.report import check_folder_of
from pipeline.cli.request import Request, ResolvedRequest
from pipeline.errors import RequestError, nearest, refused
from pipeline.graph.context import GraphContext
from pipeline.graph.nodes import Graph, Node, ReportedModel
from pipeline.leaderboard.check import zip_problems
from pipeline.leaderboard.files import FILES, LeaderboardFile
from pipeline.leaderboard.rows import OfficialRows, RowsAtHand
from pipeline.recipe import TaskRecipe
from stages.atomic import replacing
from stages.specs.evaluation import EvaluateSpec, SimilaritySpec
from stages.specs.tasks import Task


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose predictions are submitted. ``student`` and ``seed``: None where the recipe has one for each task."""

    method: str
    student: str | None
    seed: int | None

    def fits(self, model: ReportedModel) -> bool:
        """Whether a model of the recipe is meant."""
        return model.method == self.method and self.student in (None, model.student) and self.seed in (None, model.seed)


@dataclass(frozen=True, slots=True)
class Predictor:
    """The model that predicts the rows of a file. ``order[i]`` is its output that means the task's label i, None where
    they agree; rows are cut at ``max_length`` tokens."""

    model: FoundModel
    order: tuple[int, ...] | None
    max_length: int


@dataclass(frozen=True, slots=True)
class SubmittedFile:
    """A file of the submission: its rows and the model that predicts them, or the value that all rows get."""

    file: LeaderboardFile
    rows: OfficialRows | None
    predictor: Predictor | None
    constant: float
    reason: str = ""


def write_submission(request: Request, choice: Choice, out: Path, fills: bool) -> None:
    """Write the submission of the recipe's models that ``choice`` names to the zip ``out``. Without ``fills``, every
    file needs a model and its official test split; with it, a file that lacks one gets the most frequent label of train
    in all rows. Raises RequestError, and writes nothing then."""
    _check_out(out)
    resolved = resolve_built(request, False)
    nodes = chosen_models(resolved.graph, choice)
    at_hand = RowsAtHand(resolved.recipe, GraphContext(resolved.digests, resolved.pins, {}))
    entries = [_entry(file, nodes, resolved, at_hand, request.recipe) for file in FILES]
    missing = [entry for entry in entries if entry.predictor is None]
    if missing and not fills:
        raise RequestError(
            f"{request.recipe}: {len(missing)} of {len(FILES)} files have no predictions: {_reasons(missing)}; add "
            "what is missing, or fill them with the most frequent label of train: --fill majority"
        )
    filled = [_filled(entry, at_hand) for entry in entries]
    predicted = sum(entry.file.rows for entry in filled if entry.predictor is not None)
    with progress_bar(predicted) as advance, replacing(out) as draft:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in _texts(filled, advance):
                archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        problems = zip_problems(draft)
        if problems:
            raise RequestError(f"the submission would be refused, and is not kept: {'; '.join(problems)}")
        _check_out(out)  # another program may have written it meanwhile
    for entry in filled:
        print(_describe(entry))
    if missing:
        names = ", ".join(entry.file.name for entry in missing)
        print(f"stillhouse: warning: {len(missing)} files have one prediction for all rows: {names}", file=sys.stderr)
    print(f"{len(FILES)} files, {sum(file.rows for file in FILES):,} rows: {out}")


def _reasons(missing: Sequence[SubmittedFile]) -> str:
    """The files without predictions, with the reason for each group of them."""
    names: dict[str, list[str]] = {}
    for entry in missing:
        names.setdefault(entry.reason, []).append(entry.file.name)
    return "; ".join(f"{', '.join(files)} ({reason})" for reason, files in names.items())


def check_submission(path: Path) -> int:
    """Print what is wrong with a submission, a line each, or that nothing is. Returns the exit code, 1 if something is
    wrong. Raises RequestError for a file that cannot be read."""
    with refused("FILE"):
        problems = zip_problems(path)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{path}: {len(FILES)} files, {sum(file.rows for file in FILES):,} rows, as the leaderboard takes them")
    return 1 if problems else 0


def _check_out(out: Path) -> None:
    check_folder_of(out)
    if out.suffix.lower() != ".zip":
        raise RequestError(f"--out: {out}; the leaderboard takes a zip, so give a name that ends in .zip")
    if out.exists():
        raise RequestError(f"--out: {out} exists, and is not overwritten; give another path, or remove it")


# --- models and rows ------------------------------------------------------------------------------


def chosen_models(graph: Graph, choice: Choice) -> Mapping[str, Node]:
    """Task -> the evaluation of the model that ``choice`` names. Raises RequestError where that is none at all, and
    where it is several for a task."""
    nodes = [
        (node, node.subject)
        for node in graph.wanted
        # The cosine of a pair is no score of it.
        if node.role == "evaluate" and node.subject is not None and not isinstance(node.spec, SimilaritySpec)
    ]
    found: dict[str, list[Node]] = {}
    for node, model in nodes:
        if choice.fits(model):
            found.setdefault(node.task, []).append(node)
    if not found:
        _refuse_unknown(choice, [model for _, model in nodes])
    for task, several in found.items():
        if len(several) > 1:
            listed = ", ".join(map(model_name, several[:6]))
            raise RequestError(
                f"--method: {choice.method} stands for {len(several)} models of {task} ({listed}); choose with "
                "--student and --seed"
            )
    return {task: node for task, (node,) in found.items()}


def _refuse_unknown(choice: Choice, models: Sequence[ReportedModel]) -> None:
    """Raise RequestError for the first of the options that no model has."""
    of_method = [model for model in models if model.method == choice.method]
    if not of_method:
        hint = nearest(choice.method, (model.method for model in models))
        raise RequestError(f"--method: the recipe has no {choice.method}; {hint}")
    of_student = [model for model in of_method if choice.student in (None, model.student)]
    if not of_student:
        hint = nearest(str(choice.student), (model.student for model in of_method))
        raise RequestError(f"--student: {choice.method} has no {choice.student}; {hint}")
    seeds = ", ".join(map(str, sorted({model.seed for model in of_student})))
    raise RequestError(f"--seed: {choice.method} has no seed {choice.seed}; known: {seeds}")


def _entry(
    file: LeaderboardFile, nodes: Mapping[str, Node], resolved: ResolvedRequest, at_hand: RowsAtHand, recipe: Path
) -> SubmittedFile:
    """The entry of a file; one without predictor where its model or its rows are not there, with the reason. Raises
    RequestError for a test split that is not the official one."""
    try:
        predictor = _predictor(file.task, nodes, resolved, recipe)
        rows = at_hand.test(file)
    except RequestError as error:
        return SubmittedFile(file, None, None, 0.0, str(error).removeprefix("MODEL: "))
    with refused("data"):
        count = rows.count()
    if count != file.rows:
        raise RequestError(
            f"data: {rows.source.origin}: {count:,} rows; {file.name} takes the {file.rows:,} rows of the official "
            "split, so give that file, or leave it out"
        )
    return SubmittedFile(file, rows, predictor, 0.0)


def _predictor(task: Task, nodes: Mapping[str, Node], resolved: ResolvedRequest, recipe: Path) -> Predictor:
    """The model for a task of the leaderboard. Raises RequestError where there is none."""
    own: TaskRecipe | None = next((one for one in resolved.recipe.tasks if one.task.name == task.name), None)
    if own is None or task.name not in nodes:
        raise RequestError(f"{task.name} is no task of the recipe" if own is None else f"not trained for {task.name}")
    if own.task.labels != task.labels:
        raise RequestError(f"{task.name} is a task of the recipe's own, with other labels than GLUE's")
    node = nodes[task.name]
    order = node.spec.label_order if isinstance(node.spec, EvaluateSpec) else None
    return Predictor(built_model(resolved, node, str(recipe)), order, own.max_length)


def _filled(entry: SubmittedFile, at_hand: RowsAtHand) -> SubmittedFile:
    """The entry, with the most frequent label of train where it has no predictor. Raises RequestError where train is
    not at hand."""
    if entry.predictor is not None:
        return entry
    try:
        constant = at_hand.most_frequent(entry.file.task)
    except RequestError as error:
        raise RequestError(f"--fill: {entry.file.name}: train of {entry.file.task.name} is needed: {error}") from error
    return SubmittedFile(entry.file, None, None, constant, entry.reason)


# --- predictions ----------------------------------------------------------------------------------


def _texts(entries: Sequence[SubmittedFile], advance: Callable[[int], None]) -> Iterator[tuple[str, str]]:
    """The name and the content of each file. A model is opened once for the files that it predicts in turn."""
    from stages.deployment.classifier import RowClassifier
    from stages.deployment.predict import open_model
    from stages.evaluation.predictions import decide

    opened: tuple[Predictor, RowClassifier] | None = None
    for entry in sorted(entries, key=lambda one: one.file.task.name):
        predictor, rows = entry.predictor, entry.rows
        if predictor is None or rows is None:
            yield entry.file.name, entry.file.text([entry.constant] * entry.file.rows)
            continue
        if opened is None or opened[0] != predictor:
            with refused(predictor.model.name):
                opened = predictor, open_model(predictor.model.directory, predictor.max_length)
        found: list[float] = []
        for texts in rows.texts():
            logits = opened[1].logits(texts)
            if predictor.order is not None:
                logits = logits[:, list(predictor.order)]
            found += decide(entry.file.task, logits).tolist()
            advance(len(texts))
        yield entry.file.name, entry.file.text(found)


def _describe(entry: SubmittedFile) -> str:
    """A line about a file: its rows, and where its predictions are from."""
    if entry.predictor is not None:
        origin = entry.predictor.model.name
    else:
        what = "mean" if entry.file.values is None else "most frequent label"
        origin = f"{entry.file.value(entry.constant)}, the {what} of train: {entry.reason}"
    return f"{entry.file.name:<12}{entry.file.rows:>8,} rows  {origin}"
