"""The checks of the blocks ``bank`` and ``candidates``, key against key, and the maker that each method draws on.

A PlacedError's place is in the merged file.
"""

from collections.abc import Mapping, Sequence

from pipeline.recipe.errors import ABSENT, Place, PlacedError, placed, unknown
from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.model import TaskRecipe
from pipeline.recipe.schema.candidates import Bank, CandidateMaker
from stages.specs.axes.data import WithCandidates
from stages.specs.bank import BankSpec
from stages.specs.candidates import NeighboursSpec
from stages.specs.method import Method
from stages.specs.tasks import Task

SOURCES = ("files", "hub", "generated")
NEIGHBOURS, TRANSFER = "neighbours", "transfer"
"""The makers that every recipe with a bank has."""

RANDOM_OF_PAIRS = 0.5
"""The share of random texts in the transfer set of a task of pairs, beside neighbours (see ``built_in``)."""

OWN: Mapping[str, Sequence[str]] = {
    "neighbours": ("min_distance", "max_distance", "random", "seed"),
    "transfer": ("seed",),
    "words": ("share", "nearest", "model", "synonyms", "seed"),
    "masked": ("share", "nearest", "model", "seed"),
    "tinybert": ("share", "nearest", "model", "vectors", "seed"),
    "translated": ("nearest", "temperature", "there", "back", "seed"),
}
"""The keys of each maker beside those that all have."""

COMMON = ("by", "k", "found", "sides", "rerank", "confidence", "balance")
NEEDED: Mapping[str, Sequence[str]] = {
    "masked": ("model",),
    "tinybert": ("model",),
    "translated": ("there", "back"),
}


def check_bank(bank: Bank | None) -> None:
    """Raise a PlacedError, whose place is from the file's root, where keys of the bank do not go together."""
    if bank is None:
        return
    present = [name for name in SOURCES if getattr(bank, name) is not None]
    if len(present) != 1:
        found = "none of them is given" if not present else f"{' and '.join(present)} are given"
        raise PlacedError(("bank",), ABSENT, f"needs exactly one of {', '.join(SOURCES)}; {found}")
    for name in ("pooling", "max_length", "index"):
        if bank.encoder_model is None and name in bank.explicit():
            raise PlacedError(("bank", name), ABSENT, "tfidf has no such setting; leave it out")
    with placed("bank"):
        bank.as_spec(BankSpec)


def makers_of(given: Mapping[str, CandidateMaker], bank: Bank | None, task: Task) -> FrozenMapping[CandidateMaker]:
    """All makers by name, checked. Wherever there is a bank, those of ``built_in`` are among them; an entry of the
    recipe with such a name changes keys of it, unless it gives ``by``."""
    makers = built_in(bank, task)
    for name, maker in given.items():
        usual = makers.get(name)
        whole = usual is None or "by" in maker.explicit()
        makers[name] = maker if usual is None or whole else CandidateMaker(**{**usual.explicit(), **maker.explicit()})
    for name, maker in makers.items():
        _check_maker(("candidates", name), maker, bank, task)
    return FrozenMapping(makers)


def built_in(bank: Bank | None, task: Task) -> dict[str, CandidateMaker]:
    """The makers that need no entry in ``candidates``, by name; {} without a bank.

    ``transfer`` draws random texts of the bank. Of a pair of texts that is no set to learn from: a random text beside
    one of the row's is nearly always unlike it, and so are two random texts. So for pairs, in a bank of single texts,
    half of the candidates replace a text by a neighbour of it, which is a close case, and half by a random text.
    """
    if bank is None:
        return {}
    mixed = task.pair and len(bank.cleaning.text) == 1
    transfer = CandidateMaker(random=RANDOM_OF_PAIRS) if mixed else CandidateMaker(by="transfer")
    return {NEIGHBOURS: CandidateMaker(), TRANSFER: transfer}


def _check_maker(place: Place, maker: CandidateMaker, bank: Bank | None, task: Task) -> None:
    by, explicit = maker.by, maker.explicit()
    # Reranking measures distances in the teacher's last layer, whatever made the candidates.
    more = ("min_distance", "max_distance", "found") if maker.rerank else ()
    for name in explicit:
        if name not in (*COMMON, *OWN[by], *more):
            raise PlacedError((*place, name), ABSENT, f"is no key of {by}; leave it out")
    if by in ("neighbours", "transfer") and bank is None:
        raise PlacedError(place, ABSENT, f"{by} come from a bank; give bank: {{files: [...]}}")
    _check_models(place, maker)
    _check_sides(place, maker, bank, task)
    if maker.confidence is not None and not 0 <= maker.confidence[0] < maker.confidence[1] <= 1:
        raise PlacedError((*place, "confidence"), list(maker.confidence), "must rise, from 0 to 1")
    for name in ("confidence", "balance"):
        if task.regression and explicit.get(name) is not None:
            problem = f"{task.name} is a regression, whose teacher has no classes; leave it out: "
            raise PlacedError((*place, name), ABSENT, f"{problem}overrides: {{{task.name}: {{candidates: ...}}}}")
    if by == "neighbours" and maker.seed and not maker.random:
        raise PlacedError(
            (*place, "seed"), maker.seed, "but random is 0, and nothing else is drawn; give random, or leave it out"
        )
    if maker.found is not None and not maker.reranked:
        raise PlacedError((*place, "found"), maker.found, "needs rerank, confidence or balance, which leave some out")
    with placed(*place):
        maker.as_spec(NeighboursSpec, k=1, sides="first")


def _check_models(place: Place, maker: CandidateMaker) -> None:
    if maker.by == "words" and (maker.model is None) == (maker.synonyms is None):
        raise PlacedError(place, ABSENT, "words needs exactly one of model and synonyms")
    if maker.synonyms is not None and maker.nearest is not None:
        raise PlacedError((*place, "nearest"), maker.nearest, "but a word's synonyms are drawn from all; leave it out")
    for name in NEEDED.get(maker.by, ()):
        if getattr(maker, name) is None:
            raise PlacedError((*place, name), ABSENT, f"missing, and needed by {maker.by}")


def _check_sides(place: Place, maker: CandidateMaker, bank: Bank | None, task: Task) -> None:
    sides, here = maker.sides, (*place, "sides")
    if not task.pair and sides not in (None, "first"):
        raise PlacedError(here, sides, f"but {task.name} has one text; leave it out")
    if sides == "joined" and maker.by != "neighbours":
        raise PlacedError(here, sides, "is for neighbours alone, which can search a pair as a whole; name another")
    if maker.by == "transfer" and sides is not None:
        raise PlacedError(here, sides, "but texts drawn at random are not variants of a row's text; leave it out")
    if bank is None or maker.by not in ("neighbours", "transfer"):
        return
    pairs = len(bank.cleaning.text) == 2
    if maker.by == "neighbours" and pairs != (sides == "joined") and (sides is not None or not task.pair):
        problem = "needs a bank of pairs (bank.text: [ONE, OTHER])" if sides == "joined" else "but the bank is of pairs"
        raise PlacedError(
            here,
            sides or ABSENT,
            f"{problem}; " + ("or name another" if sides == "joined" else "use one of single texts"),
        )
    if maker.by == "transfer" and pairs != task.pair:
        needed = "pairs (bank.text: [ONE, OTHER])" if task.pair else "single texts"
        problem = f"the rows of {task.name} take a bank of {needed}"
        mixed = "; for one of single texts use by: neighbours, with random: 0.5" if task.pair else ""
        raise PlacedError(place, ABSENT, problem + mixed)


# --- use by methods ----------------------------------------------------------------------------------------


def candidates_of(
    name: str | None, method: Method, makers: Mapping[str, object], bank: bool, default: str
) -> str | None:
    """The name of the maker that a method's data axis uses; None where it uses none. ``name`` is the method's key,
    ``default`` the maker where that is left out."""
    if not isinstance(method.data, WithCandidates):
        if name is not None:
            raise PlacedError(("candidates",), name, "but data: original uses none; leave it out, or use data: knn")
        return None
    known = list(dict.fromkeys([*makers, *((NEIGHBOURS, TRANSFER) if bank else ())]))
    found = name or default
    if found not in known:
        if name is None:
            built_in_maker = default in (NEIGHBOURS, TRANSFER)
            given = (
                "bank: {files: [...]}"
                if built_in_maker
                else f"candidates: {{{default}: {{by: {default}, model: ...}}}}"
            )
            raise PlacedError((), ABSENT, f"{method.data.kind} needs candidates; give {given}")
        raise unknown(("candidates",), found, "maker of candidates of this recipe", known)
    return found


def check_k(recipe: TaskRecipe) -> None:
    """Raise where a method takes more candidates for a row than ``candidates.NAME.k`` makes."""
    for place, learner in recipe.learners():
        data, name = learner.method.data, learner.candidates
        if name is None or not isinstance(data, WithCandidates):
            continue
        made = recipe.makers[name].k
        if made is not None and made < data.k:
            problem = f"but candidates.{name}.k is {made}; take no more, or make more"
            raise PlacedError((*place, *learner.axes, "data", "k"), data.k, problem)
