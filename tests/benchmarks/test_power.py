import pytest

from benchmarks.__main__ import main


def test_the_table_of_what_a_comparison_finds_is_a_program_of_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "--experiments", "2"]) == 0
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert head == "| rows | 1 seed | 3 seeds | 5 seeds | 10 seeds |"
    assert set(rule) == set("| -:")
    assert [line.split(" | ")[0] for line in lines] == ["| 277", "| 400", "| 872", "| 1,500", "| 5,000", "| 40,000"]
