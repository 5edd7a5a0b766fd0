"""``stillhouse verify``: compare an artifact with its record, and a store with its corpus and its teacher."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.inline import Inline
from cluster.resources import On, Resources, SilentListener
from pipeline.artifacts.locate_inputs import input_path, teacher_model
from pipeline.artifacts.record import Record
from pipeline.artifacts.search import locate
from pipeline.errors import RequestError, refused
from pipeline.execution.repair import repair
from pipeline.plan.resources import default
from pipeline.storage import Storage
from stages.checksum import file_sha256
from stages.specs.teacher import QUARANTINED, ProbeSpec, TeachSpec


def verify_artifact(
    target: str, storage: Storage, sample: int, mend: bool, console: Console, recipe: str | None = None
) -> int:
    """Check the artifact that ``target`` names, and print problems.

    ``target`` and ``recipe`` are as for ``stillhouse show``. ``sample``: rows of a store that are computed again with
    its teacher. ``mend``: repair what is damaged. Returns the exit code: 0 if there is no problem or all were repaired,
    else 1. Raises RequestError.
    """
    record, root = locate(target, storage, recipe)
    if sample and record.stage != TeachSpec.stage:
        raise RequestError(f"--sample: {sample}, but {record.name} is not a teacher-output store; leave it out")
    directory = root.inspect(record.folder, record.files_below())
    console.print(f"{record.name}  {root.where(record.folder)}", soft_wrap=True, markup=False)
    broken = broken_files(directory, record)
    for path, problem in broken:
        console.print(f"  {path}: {problem}", style="red", soft_wrap=True, markup=False)
    sound: Sequence[int] = ()
    problems = len(broken)
    if record.stage in (TeachSpec.stage, ProbeSpec.stage):
        found, sound = check_outputs(directory, record, root, [path for path, _ in broken], console)
        problems += found
    if not problems:
        console.print(f"  {len(record.files)} files are as they were committed")
        return recheck_sample(directory, record, root, sample, console) if sample else 0
    if not mend:
        of_recipe = "" if recipe is None else f" --recipe {recipe}"
        remedy = f"stillhouse verify {target}{of_recipe} --repair repairs what can be repaired"
        console.print(f"{problems} problems; {remedy}", soft_wrap=True, markup=False)
        return 1
    again = repair(record, root, sound, console)
    return 0 if again is None else verify_artifact(again.key, root, sample, False, console)


def broken_files(directory: Path, record: Record) -> list[tuple[str, str]]:
    """(path, problem) for each file of the artifact that differs from its record."""
    found = []
    for file in record.files:
        path = directory / file.path
        if not path.is_file():
            found.append((file.path, "is missing"))
        elif path.stat().st_size != file.size:
            found.append((file.path, f"has {path.stat().st_size:,} bytes, the record says {file.size:,}"))
        else:
            try:
                if file_sha256(path) != file.sha256:
                    found.append((file.path, "its checksum differs from the record"))
            except OSError as error:
                found.append((file.path, f"cannot be read ({error.strerror})"))
    return found


def check_outputs(
    directory: Path, record: Record, storage: Storage, broken: Sequence[str], console: Console
) -> tuple[int, Sequence[int]]:
    """Check every shard of a store and the rows it holds; print the findings. Returns the number of problems, and the
    numbers of the sound shards. ``broken``: files that differ from the record."""
    from stages.outputs.layout import UnknownFormat
    from stages.outputs.verify import CheckedShard, check_store

    row_keys = wanted_keys(record, storage)

    def print_shard(checked: CheckedShard) -> None:
        text = checked.problem or f"{checked.shard.rows:,} rows, {checked.shard.bytes:,} bytes: sound"
        style = "red" if checked.problem else ""
        console.print(f"  {checked.shard.name}: {text}", style=style, soft_wrap=True, markup=False)

    try:
        found = check_store(directory, row_keys, print_shard)
    except UnknownFormat as error:  # sound, as far as this version can tell: not to be repaired
        raise RequestError(f"{record.name}: {error}") from error
    except ValueError as error:
        console.print(f"  {error}", style="red", soft_wrap=True, markup=False)
        return 1, intact(record, broken)
    if found.problem:
        console.print(f"  {found.problem}", style="red", soft_wrap=True, markup=False)
    else:
        aside = f"; {found.quarantined:,} rows are set aside ({QUARANTINED})" if found.quarantined else ""
        console.print(f"  holds every row of the corpus once, and no other row{aside}", soft_wrap=True, markup=False)
    return len(found.shards) - len(found.sound) + bool(found.problem), found.sound


def wanted_keys(record: Record, storage: Storage) -> Sequence[bytes]:
    """The keys of the rows that a store must hold: those of its corpus or, for probes, of the store that they are
    fitted on. Raises RequestError."""
    if record.stage == ProbeSpec.stage:
        from stages.outputs.layout import read_store
        from stages.teaching.probe import stored_keys

        outputs = input_path(record, "outputs", storage)
        with refused(f"{record.name}: its teacher's store"):
            return stored_keys(outputs, read_store(outputs))
    from stages.teaching.teach import distinct_keys

    corpus = input_path(record, "corpus", storage)
    with refused(record.name):
        spec = TeachSpec.model_validate(record.spec)
    with refused(f"{record.name}: its corpus"):
        return distinct_keys(corpus, spec.splits)


def intact(record: Record, broken: Sequence[str]) -> list[int]:
    """The numbers of the shards whose files agree with the record; used if store.json cannot be read."""
    numbers = {int(Path(file.path).stem[6:]) for file in record.files if file.path.startswith("shard-")}
    lost = {int(Path(path).stem.partition("-")[2]) for path in broken if path.startswith(("shard-", "scales-"))}
    return sorted(numbers - lost)


def recheck_sample(directory: Path, record: Record, storage: Storage, count: int, console: Console) -> int:
    """Compute ``count`` rows again with the teacher and print the largest difference of each column. Returns the exit
    code: 1 if a difference is larger than the stored precision explains."""
    from stages.outputs.layout import read_store
    from stages.teaching.job import TeachJob
    from stages.teaching.recheck import differences, tolerance

    with refused(record.name):
        spec, layout = TeachSpec.model_validate(record.spec), read_store(directory).layout
    dump = TeachJob(spec, teacher_model(record, storage), input_path(record, "corpus", storage), directory, layout)
    with refused(record.name):
        found = differences(dump, count, inline(), seed=0)
    table = Table("column", "largest difference", "largest value", "row", header_style="bold")
    for each in found:
        style = "" if each.within(dump) else "red"
        table.add_row(
            each.column, f"{each.largest:.3g}", f"{each.value:.3g}", Text(each.row_key.hex()[:12]), style=style
        )
    console.print(table)
    wrong = [each.column for each in found if not each.within(dump)]
    bound = f"{tolerance(dump):.1%} of the largest value, which {spec.precision} and {spec.compute} explain"
    if wrong:
        console.print(f"{', '.join(wrong)}: differ by more than {bound}: not the outputs of this teacher", style="red")
        return 1
    console.print(f"{min(count, record.rows)} rows computed again by the teacher: all within {bound}")
    return 0


def inline() -> On:
    """Resources for one worker in this process, without Ray."""
    here = Inline()
    wanted: Resources = replace(default("teach", here.capacity()), workers=1)
    return here.on(wanted, SilentListener())
