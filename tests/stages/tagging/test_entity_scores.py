"""Entity F1 is that of conlleval: of exact spans and types."""

import random

import pytest
from seqeval.metrics import accuracy_score, classification_report

from stages.tagging.entity_scores import entity_report
from stages.tagging.tags import tag_set


def test_a_hand_made_case_has_the_scores_of_conlleval() -> None:
    """Of three entities one is found; one has a wrong end, one a wrong type, and a fourth is invented."""
    labels = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    found = [["B-PER", "O", "B-LOC", "B-LOC"], ["B-LOC", "O"]]
    report = entity_report(labels, found, lost=2)
    assert (report.micro.entities, report.micro.predicted, report.micro.right) == (3, 4, 1)
    assert report.micro.precision == 25.0
    assert report.micro.recall == pytest.approx(100 / 3)
    assert report.micro.f1 == pytest.approx(200 / 7)
    by_type = {score.type: (score.entities, score.predicted, score.right) for score in report.by_type}
    assert by_type == {"LOC": (1, 3, 1), "ORG": (1, 0, 0), "PER": (1, 1, 0)}
    assert (report.words, report.accuracy, report.lost) == (6, 50.0, 2)


def test_neighbouring_entities_of_a_type_are_two() -> None:
    report = entity_report([["B-LOC", "B-LOC"]], [["B-LOC", "I-LOC"]])
    assert (report.micro.entities, report.micro.predicted, report.micro.right) == (2, 1, 0)


def test_scores_are_those_of_seqeval_for_random_sequences_that_need_not_be_valid() -> None:
    generator = random.Random(0)
    tags = tag_set(["PER", "LOC", "MISC"])
    lengths = [generator.randrange(1, 12) for _ in range(300)]
    labels = [[generator.choice(tags) for _ in range(length)] for length in lengths]
    # Half of the tags are right, so that some entities are.
    found = [[tag if generator.random() < 0.5 else generator.choice(tags) for tag in row] for row in labels]
    report = entity_report(labels, found)
    expected = classification_report(labels, found, output_dict=True, zero_division=0)
    assert report.micro.right > 100
    for score in (report.micro, *report.by_type):
        other = expected[score.type or "micro avg"]
        assert score.entities == other["support"]
        for own, name in ((score.precision, "precision"), (score.recall, "recall"), (score.f1, "f1-score")):
            assert own == pytest.approx(100 * other[name])
    assert report.accuracy == pytest.approx(100 * accuracy_score(labels, found))


def test_scores_without_entities_are_0() -> None:
    report = entity_report([["O", "O"]], [["O", "O"]])
    assert (report.micro.precision, report.micro.recall, report.micro.f1, report.by_type) == (0.0, 0.0, 0.0, ())
    assert report.accuracy == 100.0


@pytest.mark.parametrize(
    ("labels", "found", "message"),
    [
        ([["O"]], [], "0 predicted sentences for 1"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 2 has 1 predictions for 2 words"),
        ([], [], "no words; give at least 1"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(labels: list[list[str]], found: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entity_report(labels, found)
