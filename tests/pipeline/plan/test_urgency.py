from dataclasses import replace
from pathlib import Path

from pipeline.graph.nodes import Edge, ExternalInput, Node, ScoreGate
from pipeline.plan.urgency import urgencies
from stages.specs.evaluation import EvaluateSpec


def node(role: str, name: str, *sources: Node) -> Node:
    inputs = {f"input{at}": Edge(source) for at, source in enumerate(sources)}
    return Node(name, role, "tiny", EvaluateSpec(), {"own": ExternalInput(name, Path(name), name), **inputs})


CORPUS = node("corpus", "corpus")
BANK = node("bank", "bank")
EMBEDDINGS = node("embed", "embeddings", BANK)
TEACHER = node("finetune", "teacher", CORPUS)
TEACHER_SCORE = node("evaluate", "teacher's score", TEACHER)
STORE = node("teach", "store", TEACHER, CORPUS)
TABLE = node("candidates", "table", EMBEDDINGS, CORPUS)
CANDIDATE_STORE = node("teach", "store of candidates", TEACHER, TABLE)
PLAIN = node("distil", "plain", CORPUS, STORE)
PLAIN_SCORE = node("evaluate", "plain's score", PLAIN)
AUGMENTED = node("distil", "augmented", CORPUS, STORE, CANDIDATE_STORE)
AUGMENTED_SCORE = node("evaluate", "augmented's score", AUGMENTED)
NODES = (
    CORPUS,
    BANK,
    EMBEDDINGS,
    TEACHER,
    TEACHER_SCORE,
    STORE,
    TABLE,
    CANDIDATE_STORE,
    AUGMENTED,
    AUGMENTED_SCORE,
    PLAIN,
    PLAIN_SCORE,
)


def by_urgency(*nodes: Node) -> list[str]:
    ranks = urgencies(nodes)
    return [one.name for one in sorted(nodes, key=lambda one: ranks[one.key])]


def test_evaluations_come_first_and_what_needs_candidates_last() -> None:
    assert by_urgency(*NODES) == [
        "teacher's score",
        "augmented's score",
        "plain's score",
        "corpus",
        "teacher",
        "store",
        "plain",
        "bank",
        "embeddings",
        "table",
        "store of candidates",
        "augmented",
    ]


def test_what_needs_only_candidates_that_are_built_already_does_not_come_last() -> None:
    """A run that goes on after the bank's stages were done: only what is yet to be built counts."""
    assert by_urgency(CANDIDATE_STORE, AUGMENTED, PLAIN) == ["store of candidates", "augmented", "plain"]


def test_of_one_stage_the_node_with_the_longest_chain_behind_it_comes_first() -> None:
    alone = node("distil", "alone")
    first = node("distil", "first generation")
    second = node("distil", "second generation", node("teach", "its store", first))
    assert by_urgency(alone, first, next(second.sources), second) == [
        "its store",
        "first generation",
        "alone",
        "second generation",
    ]


def test_a_score_that_a_teacher_must_reach_comes_before_scores_that_no_node_waits_for() -> None:
    """``teacher.least``: the store, and all that is distilled from it, waits for the evaluation of the teacher."""
    gated = replace(STORE, gate=ScoreGate(TEACHER_SCORE, "model", "accuracy", ("validation",), 80.0))
    student = node("distil", "gated", CORPUS, gated)
    score = node("evaluate", "base", CORPUS)
    assert by_urgency(CORPUS, TEACHER, score, TEACHER_SCORE, gated, student)[:2] == ["teacher's score", "base"]
