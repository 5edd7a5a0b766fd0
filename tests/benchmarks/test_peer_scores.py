import numpy as np

from benchmarks.peer_scores import Right, accuracy, difference


def answers(*right: int, rows: int = 10) -> Right:
    """Rows with these answered rightly."""
    found: Right = np.isin(np.arange(rows), right)
    return found


def test_accuracy_is_the_share_of_right_answers_in_percent() -> None:
    assert accuracy(answers(1, 2, 3)) == 30.0


def test_equal_answers_differ_by_nothing_with_certainty() -> None:
    same = [answers(1), answers(2), answers(1, 2)]
    assert difference(same, same).endswith("over seeds +0.00 .. +0.00, over rows +0.00 .. +0.00")


def test_a_difference_pairs_seeds_and_pairs_rows() -> None:
    ours, theirs = [answers(0, 1, 2), answers(0, 1), answers(0)], [answers(0, 1), answers(0, 1), answers(0, 9)]
    said = difference(ours, theirs)
    assert said.startswith("+0.00 points (seeds: +10.00, +0.00, -10.00)")
    # Student's t of two degrees of freedom is 4.303; the deviation of the three is 10.
    assert f"over seeds -{4.3027 * 10 / 3**0.5:.2f} .. +{4.3027 * 10 / 3**0.5:.2f}" in said
    # Row 2 is won by one seed in three and row 9 lost by one: variance (2 / 9) / 9 between ten rows.
    assert f"over rows -{1.96 * 100 * (2 / 9 / 9 / 10) ** 0.5:.2f} .." in said
