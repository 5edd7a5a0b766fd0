"""The text of a first recipe: YAML with a comment on each choice, which says why, or what to change."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.recipe.starter.settings import Settings, Teacher, cut_layers, depth_label, settings_for, student_depths
from pipeline.recipe.yaml import to_flow
from stages.corpus.inspection.lengths import RowLength
from stages.files.rows import shown_names
from stages.specs.tasks import CUT_DEV, TRAIN, Task

WIDTH = 120
COMMENT = 44
"""The column at which the comment behind a shorter value begins."""
UNEVEN = 0.8
"""The share of rows with the most frequent label from which on accuracy says little."""
MANY_ROWS = 20_000
UNCUT_STUDENT = "sentence-transformers/all-MiniLM-L6-v2"
"""The student of a teacher whose layers cannot be cut out of it."""


@dataclass(frozen=True, slots=True)
class StarterFacts:
    """What a recipe is written from. ``file`` is that of the recipe; ``storage``: where its results are kept;
    ``files``: split -> path as it is to be written; ``rows``: the rows of train; ``labels``: label -> its rows in
    train, empty for a regression."""

    file: str
    storage: str
    task: Task
    files: Mapping[str, str]
    rows: int
    labels: Mapping[str, int]
    length: RowLength
    teacher: Teacher

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the task, the headline first: macro F1 where most rows have one label."""
        if not self.labels:
            return ("pearson", "spearman")
        if max(self.labels.values()) >= UNEVEN * sum(self.labels.values()):
            return ("macro_f1", "accuracy")
        return ("accuracy", "macro_f1") if len(self.labels) > 2 else ("accuracy",)


def starter_recipe(facts: StarterFacts) -> str:
    """The recipe as YAML with comments, which ends in a line end. It is read back as every recipe is."""
    settings = settings_for(facts.rows, facts.teacher.width)
    parts = [_head(facts), _task(facts), _teacher(facts.teacher, settings), _students(facts.teacher)]
    parts += [_methods(settings), _training(facts, settings), _bank(facts.task)]
    return "\n".join(line.rstrip() for part in parts for line in part) + "\n"


def _line(value: str, comment: str = "") -> str:
    """A line with a comment behind it; where there is no room, the comment goes on a line before."""
    if not comment:
        return value
    line = f"{value:<{COMMENT - 1}} # {comment}"
    return line if len(line) <= WIDTH else f"{' ' * (len(value) - len(value.lstrip()))}# {comment}\n{value}"


def _flow_list(key: str, items: Sequence[str]) -> Iterator[str]:
    """``key: [a, b]``, with further lines where it is long."""
    line, indent = f"{key}: [", " " * (len(key) - len(key.lstrip()) + 4)
    for place, item in enumerate(items):
        end = "]" if place == len(items) - 1 else ","
        if len(line) + len(item) + 2 > WIDTH and line.strip():
            yield line.rstrip()
            line = indent
        line += f"{item}{end} "
    yield line.rstrip()


# --- parts ----------------------------------------------------------------------------------------


def _head(facts: StarterFacts) -> Iterator[str]:
    file = shlex.quote(facts.file) if facts.file.isprintable() else "RECIPE"
    yield "# Written by stillhouse init. It runs as it is; the comments say why, and what to change."
    yield "# Every key is described in docs/recipe.md, every method in docs/methods.md."
    yield "#"
    for command, purpose in (
        (f"plan {file} --probe", "what will be built, and how long it takes here"),
        (f"run {file} --inline", "train and compare; without --inline through Ray"),
        (f"report {file} --baseline no-kd", "which methods beat plain fine-tuning"),
    ):
        yield f"#   {f'stillhouse {command}':<58} {purpose}".rstrip()
    yield f"name: {to_flow(facts.task.name)}"
    yield _line(f"storage: {to_flow(facts.storage)}", "where results are kept: a folder, or s3://bucket/prefix")


def _task(facts: StarterFacts) -> Iterator[str]:
    task = facts.task
    yield ""
    yield "task:"
    yield f"  name: {to_flow(task.name)}"
    yield _line("  files:", "relative paths start at the folder in which stillhouse is started")
    for split, path in facts.files.items():
        yield f"    {split}: {to_flow(path)}"
    if not task.dev:
        yield _line(f"    # {CUT_DEV}: FILE", "without such a file, a tenth of train is cut off for it")
    texts = to_flow(list(task.text)) if task.pair else to_flow(task.text[0])
    yield _line(f"  text: {texts}", "two texts, which are read as a pair" if task.pair else "two columns make a pair")
    yield f"  label: {to_flow(task.label)}"
    if task.labels is None:
        yield _line("  regression: true", "the label is a number; for classes, list them: labels: [0, 1]")
    else:
        if all(map(_is_whole, task.labels)):
            yield "  # Each number is a class. If they are scores, write regression: true instead of labels and metric."
        yield from _flow_list("  labels", [_label(name) for name in task.labels])
    first = facts.metrics[0]
    reasons = {
        "macro_f1": "most rows have one label, so accuracy says little",
        "accuracy": "the first metric selects the epoch" if task.outputs > 2 else "or f1, macro_f1, matthews",
        "pearson": "the first metric selects the epoch",
    }
    yield _line(f"  metric: {to_flow(list(facts.metrics))}", reasons[first])
    if facts.rows > MANY_ROWS:
        yield (
            f"# data: {{train_rows: {MANY_ROWS}}}".ljust(COMMENT) + f"# a sample of the {facts.rows:,} rows, to try out"
        )


def _label(name: str) -> str:
    """A label in YAML: the digits of a whole number need no quotes."""
    return name if _is_whole(name) else to_flow(name)


def _is_whole(name: str) -> bool:
    return name.isascii() and name.removeprefix("-").isdigit() and str(int(name)) == name


def _teacher(teacher: Teacher, settings: Settings) -> Iterator[str]:
    yield ""
    yield "teacher:"
    yield _line(f"  model: {to_flow(teacher.name)}", "any encoder on the hub, or a directory; larger ones teach more")
    if teacher.head == "mean":
        yield _line("  head: mean", "classifies by the mean of all tokens, as this model was pretrained;")
        yield _line("", "its students load by stillhouse.load_model (docs/recipe.md, Heads)")
    if teacher.finetuned:
        yield "  # Its outputs have the names of these labels, so it is used as it is; finetune: {} trains it first."
    else:
        rate = f"{settings.teacher_rate:.1e}".replace("e-0", "e-")
        yield f"  finetune: {{epochs: {settings.teacher_epochs}, learning_rate: {rate}}}"


def _students(teacher: Teacher) -> Iterator[str]:
    yield ""
    if not teacher.can_be_cut:
        yield "# The layers of this teacher cannot be cut out of it, so the student is a small model of its own."
        yield f"student: {{label: small, model: {UNCUT_STUDENT}, head: mean}}"
        return
    depths = student_depths(teacher.layers)
    for place, depth in enumerate(depths):
        layers = to_flow(list(cut_layers(teacher, depth)))
        entry = f"- {{label: {depth_label(depth)}, cut: {{of: teacher, layers: {layers}}}}}"
        if place == 0:
            yield "student:"
            yield f"  # Starts as {depth} of the {teacher.layers} layers of the fine-tuned teacher."
            yield f"  {entry}"
        else:
            yield _line(f"  # {entry}", "slower, and closer to the teacher")


def _methods(settings: Settings) -> Iterator[str]:
    yield ""
    yield "method:"
    yield _line("  - no-kd", "the labels alone: what distillation has to beat")
    yield _line("  - vanilla-kd", "labels, and the teacher's probabilities")
    if settings.temperatures is None:
        yield _line("  - annealing-kd", "first the teacher's logits, softened less and less, then labels")
    else:
        share = "" if settings.first_phase is None else f", first_phase: {settings.first_phase:g}"
        yield "  # First the teacher's logits, softened less and less, then labels."
        yield f"  - {{use: annealing-kd, training: {{max_temperature: {settings.temperatures}{share}}}}}"


def _training(facts: StarterFacts, settings: Settings) -> Iterator[str]:
    length, rate = facts.length, f"{settings.rate:.1e}".replace("e-0", "e-")
    yield ""
    yield "train:"
    yield _line(f"  epochs: {settings.epochs}", f"for {facts.rows:,} rows; the best epoch on held-out rows is kept")
    yield _line(f"  learning_rate: {rate}", "or compare some: rates: [1.0e-4, 2.0e-4, 4.0e-4]")
    if length.cut:
        yield _line(
            f"  max_length: {length.max_length}", f"tokens; {100 * length.cut:.2g} % of the rows are longer and are cut"
        )
    else:
        yield _line(f"  max_length: {length.max_length}", f"tokens; 98 % of the rows have at most {length.usual}")
    reason = (
        "a student for each; with one seed, small differences are chance"
        if len(settings.seeds) > 1
        else "[0, 1, 2] to compare methods: with one seed, small differences are chance"
    )
    yield _line(f"seeds: {to_flow(list(settings.seeds))}", reason)


def _bank(task: Task) -> Iterator[str]:
    kind = "Unlabelled single texts" if task.pair else "Unlabelled texts"
    yield ""
    yield f"# {kind} like those of the task help most, if you have some (docs/results.md, gains): take the # away"
    yield "# before bank, and put the method in the list above. A text file has one text in each line; in a table, text"
    yield "# names the column."
    yield "# bank: {files: [sentences.txt], text: text, max_words: 100}"
    yield "#   - {use: transfer, data: {k: 16}}"


def described(facts: StarterFacts) -> str:
    """One line on what was assumed: rows, columns, classes and length. Names of columns stand between backticks."""
    names = [f"`{shown_names([name])}`" for name in facts.task.text]
    text = f"texts in {names[0]} and {names[1]}" if len(names) == 2 else f"text in {names[0]}"
    label = f"`{shown_names([facts.task.label])}`"
    kind = f"{len(facts.task.labels)} classes in {label}" if facts.task.labels is not None else f"scores in {label}"
    others = [split for split in facts.files if split != TRAIN]
    rows = f"{facts.rows:,} {'pairs' if facts.task.pair else 'rows'}"
    rows += f" of train (with {' and '.join(others)})" if others else ""
    taught = "; the teacher is fine-tuned already" if facts.teacher.finetuned else ""
    return f"{rows}, {text}, {kind}, max_length {facts.length.max_length}{taught}"
