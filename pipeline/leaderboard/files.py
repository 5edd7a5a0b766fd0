"""The files of a submission to the GLUE leaderboard (https://gluebenchmark.com): names, numbers of rows, values.

A file has the header ``index<TAB>prediction``, and a line for each row of an official test split, in its order.
"""

from dataclasses import dataclass
from typing import Final

from stages.specs.tasks import DIAGNOSTIC, GLUE, Task

HEADER: Final = "index\tprediction"

LOWEST, HIGHEST = 0.0, 5.0
"""The bounds of the score of STS-B."""


@dataclass(frozen=True, slots=True)
class LeaderboardFile:
    """A file of a submission. Its predictions are those of a model of ``task`` for the ``rows`` rows that the official
    ``split`` of ``data`` has; ``data`` is the task itself, or the diagnostic set. ``values[i]`` stands for the task's
    label i; None where predictions are scores."""

    name: str
    task: Task
    rows: int
    values: tuple[str, ...] | None
    split: str = "test"
    data: Task | None = None

    @property
    def rows_of(self) -> Task:
        """The task whose data have the rows."""
        return self.data or self.task

    def value(self, prediction: float) -> str:
        """How the file writes a prediction: the number of a label, or a score, which is moved into its bounds."""
        if self.values is None:
            return f"{min(HIGHEST, max(LOWEST, prediction)):.3f}"
        return self.values[int(prediction)]

    def text(self, predictions: list[float]) -> str:
        """The content of the file for these predictions, one for each row in order."""
        lines = [f"{index}\t{self.value(prediction)}" for index, prediction in enumerate(predictions)]
        return "\n".join([HEADER, *lines]) + "\n"


NUMBERS = ("0", "1")

FILES = (
    LeaderboardFile("CoLA.tsv", GLUE["cola"], 1_063, NUMBERS),
    LeaderboardFile("SST-2.tsv", GLUE["sst2"], 1_821, NUMBERS),
    LeaderboardFile("MRPC.tsv", GLUE["mrpc"], 1_725, NUMBERS),
    LeaderboardFile("STS-B.tsv", GLUE["stsb"], 1_379, None),
    LeaderboardFile("QQP.tsv", GLUE["qqp"], 390_965, NUMBERS),
    LeaderboardFile("MNLI-m.tsv", GLUE["mnli"], 9_796, GLUE["mnli"].labels, "test_matched"),
    LeaderboardFile("MNLI-mm.tsv", GLUE["mnli"], 9_847, GLUE["mnli"].labels, "test_mismatched"),
    LeaderboardFile("QNLI.tsv", GLUE["qnli"], 5_463, GLUE["qnli"].labels),
    LeaderboardFile("RTE.tsv", GLUE["rte"], 3_000, GLUE["rte"].labels),
    LeaderboardFile("WNLI.tsv", GLUE["wnli"], 146, NUMBERS),
    LeaderboardFile("AX.tsv", GLUE["mnli"], 1_104, GLUE["mnli"].labels, data=DIAGNOSTIC),
)
"""The eleven files. The diagnostic set AX is predicted by the model of MNLI."""
