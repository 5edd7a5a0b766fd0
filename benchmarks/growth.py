"""How cost grows: of the dump with its rows, of a plan with its nodes, of the start of training with the store's size.

Each line of a table has ten times the size of the one above, and shows the seconds for one row or node as well: where
those do not increase, growth is linear or less. The dump is the whole stage, with a random encoder of one layer, over
generated rows. The start of training is the time from requesting the store's columns to the first batch's tensors, once
over a store that was just written and never read, then again over the same store.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from benchmarks.findings import Finding
from benchmarks.pairs import Cost, interleaved, summary, timed, walls
from benchmarks.plan_time import SEEDS, called, command, write_recipe
from benchmarks.scene import BATCH, DEV_ROWS, Scene, packaged_model
from stages.corpus.batches import epoch_batches
from stages.corpus.corpus import corpus
from stages.corpus.rowset import Rowset, read_rowset
from stages.models.loading import head_config
from stages.specs.axes.targets import TeacherTargets
from stages.specs.corpus import CorpusSpec, Generated
from stages.specs.method import Method
from stages.specs.schedule import OutputRequest
from stages.specs.seeds import seed_of
from stages.specs.tasks import REVIEWS
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.teachers import signal_of

STEPS = (1, 10, 100)
"""Rows of the three stores, in twice the rows of the scale: 1,024 to 102,400 in a full run."""
SMALL = {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 512}


def measure(scene: Scene) -> list[Finding]:
    root = scene.root / "growth"
    root.mkdir()
    return [*stores(scene, root), *plans(scene, root)]


def plans(scene: Scene, root: Path) -> list[Finding]:
    """A plan of so many nodes with nothing built."""

    def planning(nodes: int) -> Callable[[], Cost]:
        arguments = command("plan", write_recipe(root / f"{nodes}.yaml", SEEDS[nodes]), root / "empty")
        return lambda: timed(lambda: called(arguments))

    turns = interleaved({str(nodes): planning(nodes) for nodes in SEEDS}, scene.scale.turns)
    return [line(f"plan, {nodes:,} nodes", walls(turns, str(nodes)), nodes, "node") for nodes in SEEDS]


def line(name: str, seconds: list[float], count: int, unit: str) -> Finding:
    value = summary(seconds)
    return Finding(name, value, unit="s", note=f"{1e6 * value.median / count:,.1f} us a {unit}")


# --- stores ---------------------------------------------------------------------------------------


@dataclass
class SizedStore:
    """A corpus of so many rows, and the seconds that were measured with it."""

    scene: Scene
    root: Path
    rows: Rowset
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"dump": [], "first": [], "again": []})

    def turn(self, number: int) -> None:
        """Dump, read the store for the first time, and read it again. Each turn has another teacher, so that nothing of
        it is cached."""
        teacher, store = write_teacher(self.root / f"teacher-{number}", number), self.root / f"store-{number}"
        store.mkdir()
        inputs = {"corpus": self.root / "corpus", "model": teacher}
        self.seconds["dump"].append(timed(lambda: teach(TeachSpec(), inputs, store, self.scene.on())).wall)
        self.seconds["first"].append(timed(lambda: self.begin(store)).wall)
        self.seconds["again"].append(timed(lambda: self.begin(store)).wall)
        shutil.rmtree(store)

    def begin(self, store: Path) -> None:
        """Everything that happens before the first step, without loading models."""
        signal = signal_of(self.scene.spec(Method(targets=TeacherTargets())), {"outputs": store}, self.rows)
        first = epoch_batches(self.rows.costs, BATCH, seed_of(0, 0, 0))[0]
        request = OutputRequest(((0, 1.0),))
        taught = signal(replace(self.rows.batch(first, "cpu"), read=signal.read(first, request)), request)
        assert np.isfinite(taught["logits"].numpy()).all()


def stores(scene: Scene, root: Path) -> list[Finding]:
    """The findings about dumps, and about first and later starts of training, by rows."""
    roots = {2 * step * scene.scale.rows: root / f"rows-{step}" for step in STEPS}
    sizes = {rows: SizedStore(scene, path, write_corpus(scene, path, rows)) for rows, path in roots.items()}
    for number in range(1 + scene.scale.turns):
        for size in list(sizes.values())[:: 1 if number % 2 == 0 else -1]:
            size.turn(number)
    titles = {"dump": "dump", "first": "start of training, first time", "again": "start of training, again"}
    return [
        line(f"{title}, {rows:,} rows", size.seconds[name][1:], rows, "row")  # the first turn is not counted
        for name, title in titles.items()
        for rows, size in sizes.items()
    ]


def write_corpus(scene: Scene, root: Path, rows: int) -> Rowset:
    (root / "corpus").mkdir(parents=True)
    source = Generated(train=rows, validation=DEV_ROWS, test=DEV_ROWS)
    corpus(
        CorpusSpec(task=REVIEWS, source=source, max_length=32, holdout=0.0),
        {"tokenizer": packaged_model()},
        root / "corpus",
        scene.on(),
    )
    return read_rowset(root / "corpus", "train")


def write_teacher(directory: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(packaged_model(), **SMALL, **head_config(REVIEWS))
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    return directory


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["growth", *sys.argv[1:]]))
