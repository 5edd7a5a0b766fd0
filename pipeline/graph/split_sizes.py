"""How many rows of a task's source end up in which split of its corpus, computed without reading a text.

The stage ``corpus`` cuts a tenth of train off as the dev split of a task without one, samples train, and holds a share
of the sample out to select the best epoch. Rows of equal texts stay together there, so with duplicates a cut may take
fewer rows than it is meant to: a number that depends on a cut is the expected one.
"""

from collections.abc import Mapping

from pipeline.graph.nodes import SplitSizes
from pipeline.recipe import Data
from stages.corpus.splits import dev_rows, holdout_rows
from stages.specs.corpus import CorpusSpec
from stages.specs.tasks import CUT_DEV, HOLDOUT, TRAIN, Task


def split_sizes(given: Mapping[str, int], task: Task, data: Data, repeats: bool = True) -> SplitSizes:
    """The sizes that the corpus will have. ``given``: split -> its rows in the source. ``repeats``: rows of train may
    have equal texts."""
    whole = given[task.train]
    cut_off = 0 if task.dev else dev_rows(whole)
    left = whole - cut_off
    sampled = left if data.train_rows is None else min(left, data.train_rows)
    held_out = holdout_rows(sampled, data.holdout, data.holdout_min_rows)
    evaluated = [rows for split, rows in given.items() if split != task.train] + ([] if task.dev else [cut_off])
    limited = [rows if data.eval_rows is None else min(rows, data.eval_rows) for rows in evaluated]
    return SplitSizes(
        trained=sampled - held_out,
        held_out=held_out,
        cut_off=cut_off,
        evaluated=sum(limited),
        given=whole,
        not_sampled=left - sampled,
        cut=repeats and bool(cut_off or held_out),
    )


def recorded_sizes(rows: Mapping[str, int], spec: CorpusSpec) -> SplitSizes:
    """The sizes of a corpus that is built. ``rows``: split -> its rows, the fact ``rows`` of its record. Where the
    splits are samples, the corpus does not tell the rows of train in the source."""
    cut_off = 0 if spec.task.dev else rows.get(CUT_DEV, 0)
    train, held_out = rows.get(TRAIN, 0), rows.get(HOLDOUT, 0)
    sampled = spec.train_rows is not None or (cut_off and spec.eval_rows is not None)
    return SplitSizes(
        trained=train,
        held_out=held_out,
        cut_off=cut_off,
        evaluated=sum(rows.values()) - train - held_out,
        given=None if sampled else train + held_out + cut_off,
    )


def share_text(task: str, sizes: SplitSizes) -> str:
    """One line: how many of the rows of train a task's models are trained on, and where the others are."""
    others = []
    not_sampled = sizes.not_sampled
    if not not_sampled and sizes.given is not None:
        not_sampled = sizes.given - sizes.trained - sizes.held_out - sizes.cut_off
    if sizes.held_out:
        others.append(f"{sizes.held_out:,} held out to select the epoch")
    if sizes.cut_off:
        others.append(f"{sizes.cut_off:,} cut off as validation")
    if not_sampled > 0:
        others.append(f"{not_sampled:,} not in the sample of data.train_rows")
    of = "" if sizes.given is None else f" of {sizes.given:,}"
    line = f"{task}: {sizes.trained:,}{of} rows of train are trained on"
    return f"{line}; {', '.join(others)}" if others else line
