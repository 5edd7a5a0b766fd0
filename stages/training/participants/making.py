"""Which participants a training has, by the method's axis ``data``."""

from collections.abc import Sequence

from stages.specs.axes.data import WithCandidates
from stages.training.objective.trained_parts import TrainedParts
from stages.training.participants.neighbours import Candidates
from stages.training.participants.protocol import Participant


def participants_of(parts: TrainedParts) -> Sequence[Participant]:
    """The participants of a training whose trained parts are ``parts``."""
    pool, data = parts.setup.candidate_pool, parts.setup.spec.method.data
    if pool is None:
        return ()
    assert isinstance(data, WithCandidates)
    return (Candidates(pool, data, parts),)
