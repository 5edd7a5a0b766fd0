"""The methods to begin with, by what a project has: what ``stillhouse methods`` and ``docs/methods.md`` show first."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A method to begin with: its name, what it does in a sentence or two, and a part of a recipe that uses it."""

    name: str
    purpose: str
    example: str


BANK = "bank: {files: [sentences.parquet], text: text}"

WHERE_TO_BEGIN: Mapping[str, tuple[Suggestion, ...]] = {
    "With unlabelled texts like those of the task (a bank), for single texts and for pairs": (
        Suggestion(
            "transfer",
            "The teacher labels random texts of the bank once, and each row is trained with one of them beside it. "
            "For pairs, half of the texts are neighbours of the row's. With 16 texts a row (data: {k: 16}), two layers "
            "of MiniLM were 6.8 points above no KD on STS-B (test, 95 % interval 5.3 to 8.2) and 1.4 on SST-2 (0.0 to "
            "2.8); vanilla-kd alone brings 1.8 and -0.2. It pays where the teacher is good: on CoLA and RTE, whose "
            "teachers were weak, 2.1 points on their mean could not be told from none (docs/results.md, gains).",
            f"{BANK}\nmethod: [no-kd, transfer]",
        ),
        Suggestion(
            "minimax-knn",
            "Of each row's nearest texts in the bank, the student is trained with those on which it differs most from "
            "the teacher. On 640 rows of SST-2, test accuracy was 77.4 without a teacher, 76.9 with the teacher's "
            "outputs on the same rows (vanilla-kd), 78.7 with all 8 neighbours of each row and 79.1 to 80.5 with some "
            "of them by minimax; on another of the three tasks nothing separated (docs/results.md, minimax-small).",
            f"{BANK}\nmethod: [no-kd, transfer, {{use: minimax-knn, data: {{k: 8, keep: 2}}}}]",
        ),
    ),
    "Without unlabelled texts": (
        Suggestion(
            "vanilla-kd",
            "The student learns from the labels and from the teacher's probabilities for the same rows.",
            "method: [no-kd, vanilla-kd]",
        ),
        Suggestion(
            "annealing-kd",
            "The student first follows the teacher's logits, softened less and less, and then the labels alone: of 10 "
            "epochs, 7 follow the logits, one at each of the temperatures 7 to 1.",
            "train: {epochs: 10}\nmethod: [no-kd, annealing-kd]",
        ),
    ),
}
"""Heading -> suggestions. Each example also has ``no-kd``, the student without a teacher, to compare with."""
