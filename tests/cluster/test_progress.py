from work import Heard

from cluster.outcomes import Part, Said
from cluster.progress import Feed, News


def test_what_arrived_late_and_what_arrived_in_time_count_once() -> None:
    heard, feed = Heard(), Feed(None)
    channel = feed.open(heard)
    feed.hear([News(channel, Part(1, 0), Said(2.0, 0, ("a",))), News(channel, Part(1, 0), Said(5.0, 1, ("b",)))])
    assert (heard.done, heard.notes) == (5.0, ["a", "b"])
    feed.close(channel, {Part(1, 0): Said(7.0, 0, ("a", "b", "c"))})
    assert (heard.done, heard.notes) == (7.0, ["a", "b", "c"])
    feed.hear([News(channel, Part(1, 0), Said(6.0, 2, ()))])
    assert heard.done == 7.0


def test_ranks_add_up() -> None:
    heard, feed = Heard(), Feed(None)
    channel = feed.open(heard)
    feed.hear([News(channel, Part(1, 0), Said(2.0))])
    feed.close(channel, {Part(1, 0): Said(3.0), Part(1, 1): Said(4.0)})
    assert heard.done == 7.0


def test_what_a_dead_worker_said_is_taken_back() -> None:
    heard, feed = Heard(), Feed(None)
    channel = feed.open(heard)
    feed.hear([News(channel, Part(1, 0), Said(2.0)), News(channel, Part(1, 1), Said(2.0))])
    feed.hear([News(channel, Part(2, 0), Said(1.0))])
    assert heard.done == 1.0
    feed.close(channel, {})
    assert heard.done == 0.0
