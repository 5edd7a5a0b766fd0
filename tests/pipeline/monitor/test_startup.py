import time
from io import StringIO

from rich.console import Console

from pipeline.monitor.startup import PRINT_AFTER, PRINT_EVERY, Startup


def lines(output: StringIO) -> list[str]:
    return [line.strip() for line in output.getvalue().splitlines()]


def test_without_a_terminal_a_step_is_printed_when_it_takes_long_and_then_every_ten_seconds() -> None:
    now, output = [0.0], StringIO()
    startup = Startup(Console(file=output, width=200), clock=lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds
        startup.tick()
        startup.tick()

    startup.step("reading the recipe")
    wait(PRINT_AFTER / 2)
    startup.step("starting Ray")
    wait(PRINT_AFTER)
    assert lines(output) == ["starting Ray, 2 s"], "a quick step is not printed"
    wait(PRINT_EVERY / 2)
    wait(PRINT_EVERY / 2)
    assert lines(output) == ["starting Ray, 2 s", "starting Ray, 12 s"]


def test_a_terminal_shows_the_step_and_its_seconds_at_once_and_nothing_of_it_stays() -> None:
    output = StringIO()
    console = Console(file=output, width=60, force_terminal=True)
    with Startup(console) as startup:
        startup.step("starting Ray on this machine")
        shown = time.monotonic() + 10
        while "starting Ray on this machine, 1 s" not in output.getvalue() and time.monotonic() < shown:
            time.sleep(0.1)
    written = output.getvalue()
    assert written.index("starting Ray on this machine") < written.index("starting Ray on this machine, 1 s")
    assert written.endswith("\x1b[1A\x1b[2K"), "the line is removed"


def test_nothing_is_printed_after_the_end() -> None:
    now, output = [0.0], StringIO()
    with Startup(Console(file=output), clock=lambda: now[0]) as startup:
        startup.step("starting Ray")
        startup.end()
        now[0] += 100
        time.sleep(0.6)
    assert output.getvalue() == ""
