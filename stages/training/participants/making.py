"""Which participants a training has, by the method's axis ``data``."""

from collections.abc import Sequence

from stages.specs.axes.data import Adversarial, FreeLB, WithCandidates, WithGenerator
from stages.training.objective.trained_parts import TrainedParts
from stages.training.participants.embedding_ascent import AdversarialAscent, FreeLBAscent
from stages.training.participants.generator.adversary import GeneratorAdversary
from stages.training.participants.neighbours import Candidates
from stages.training.participants.protocol import Participant


def participants_of(parts: TrainedParts) -> Sequence[Participant]:
    """The participants of a training whose trained parts are ``parts``."""
    setup = parts.setup
    pool, data = setup.candidate_pool, setup.spec.method.data
    if isinstance(data, FreeLB):
        return (FreeLBAscent(data, parts),)
    if isinstance(data, Adversarial):
        return (AdversarialAscent(data, parts),)
    if isinstance(data, WithGenerator):
        assert setup.generator is not None and setup.live_teachers is not None
        return (GeneratorAdversary(data, setup.generator, setup.live_teachers, parts),)
    if isinstance(data, WithCandidates) and pool is not None:
        return (Candidates(pool, data, parts),)
    return ()
