"""The blocks ``bank`` and ``candidates`` of a file, and what a method says of candidates -> values.

A PlacedError's place is in the merged file.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.recipe.errors import ABSENT, Place, PlacedError, unknown
from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.model import Bank, CandidateMaker, HubSplit, ModelNode, TaskRecipe
from pipeline.recipe.resolve.methods import split
from pipeline.recipe.schema.candidates import BankBlock, CandidatesBlock
from stages.specs.bank import BankSpec, GeneratedTexts
from stages.specs.base import Frozen
from stages.specs.candidates import Masked, NeighboursSpec, Translated, Words
from stages.specs.method import Method, WithCandidates
from stages.specs.retrieval import EmbedSpec, IndexSpec, ModelEncoder, TfIdf
from stages.specs.tasks import Task

SOURCES = ("files", "hub", "generated")
TFIDF = "tfidf"
NEIGHBOURS = "neighbours"

Value = TypeVar("Value", bound=Frozen)

OWN: Mapping[str, Sequence[str]] = {
    "neighbours": ("min_distance", "max_distance"),
    "transfer": ("seed",),
    "words": ("share", "nearest", "model", "synonyms", "seed"),
    "masked": ("share", "nearest", "model", "seed"),
    "translated": ("nearest", "temperature", "there", "back", "seed"),
}
"""Which keys a maker has beside those of all."""

COMMON = ("by", "k", "found", "sides", "rerank", "confidence", "balance")
HOW: Mapping[str, type[Words | Masked | Translated]] = {"words": Words, "masked": Masked, "translated": Translated}


def bank_of(block: BankBlock | None) -> Bank | None:
    """Places are from the file's root."""
    if block is None:
        return None
    given = [name for name in SOURCES if getattr(block, name) is not None]
    if len(given) != 1:
        found = "none of them is given" if not given else f"{' and '.join(given)} are given"
        raise PlacedError(("bank",), ABSENT, f"needs exactly one of {', '.join(SOURCES)}; {found}")
    cleaning = {
        name: getattr(block, name) for name in ("text", "sentences", "min_words", "max_words", "near_duplicates")
    }
    model = block.encoder != TFIDF
    for name in ("pooling", "max_length", "index"):
        if not model and name in block.given():
            raise PlacedError(("bank", name), ABSENT, "tfidf has no such setting; leave it out")
    encoder = ModelEncoder(pooling=block.pooling, max_length=block.max_length) if model else TfIdf()
    index = block.index
    return Bank(
        files=block.files or (),
        hub=None if block.hub is None else HubSplit.model_validate(block.hub.model_dump()),
        generated=None if block.generated is None else GeneratedTexts.model_validate(block.generated.model_dump()),
        cleaning=_made(("bank",), BankSpec, cleaning),
        encoder=block.encoder if model else None,
        embedding=EmbedSpec(encoder=encoder),
        index=IndexSpec(kind=index.kind, most_bytes=index.bytes, recall=index.recall, lists=index.lists),
    )


def makers_of(blocks: Mapping[str, CandidatesBlock], bank: Bank | None, task: Task) -> FrozenMapping[CandidateMaker]:
    """All by name, and ``neighbours`` where there is a bank."""
    there = {**({NEIGHBOURS: CandidatesBlock()} if bank is not None else {}), **blocks}
    return FrozenMapping({name: _maker(("candidates", name), block, bank, task) for name, block in there.items()})


def _maker(place: Place, block: CandidatesBlock, bank: Bank | None, task: Task) -> CandidateMaker:
    by, given = block.by, block.given()
    # What the teacher's last layer orders has distances, whatever made it.
    more = ("min_distance", "max_distance", "found") if block.rerank else ()
    for name in given:
        if name not in (*COMMON, *OWN[by], *more):
            raise PlacedError((*place, name), ABSENT, f"is no key of {by}; leave it out")
    if by in ("neighbours", "transfer") and bank is None:
        raise PlacedError(place, ABSENT, f"{by} come from a bank; give bank: {{files: [...]}}")
    _models_are_given(place, block)
    _sides_fit(place, block, bank, task)
    if block.confidence is not None and not 0 <= block.confidence[0] < block.confidence[1] <= 1:
        raise PlacedError((*place, "confidence"), list(block.confidence), "must rise, from 0 to 1")
    for name in ("confidence", "balance"):
        if task.regression and given.get(name) is not None:
            right = f"{task.name} is a regression, whose teacher has no classes; leave it out: "
            raise PlacedError((*place, name), ABSENT, f"{right}overrides: {{{task.name}: {{candidates: ...}}}}")
    maker = CandidateMaker(
        by=by,
        k=block.k,
        found=block.found,
        sides=block.sides,
        min_distance=block.min_distance,
        max_distance=block.max_distance,
        rerank=block.rerank,
        confidence=block.confidence,
        balance=block.balance,
        how=_how(place, block),
        given=FrozenMapping({name: given[name] for name in ("model", "synonyms", "there", "back") if name in given}),
        seed=block.seed,
    )
    if block.found is not None and not maker.reranked:
        raise PlacedError((*place, "found"), block.found, "needs rerank, confidence or balance, which leave some out")
    _made(place, NeighboursSpec, {"min_distance": maker.min_distance, "max_distance": maker.max_distance})
    return maker


def _models_are_given(place: Place, block: CandidatesBlock) -> None:
    needed = {"words": ("model", "synonyms"), "masked": ("model",), "translated": ("there", "back")}.get(block.by, ())
    given = [name for name in needed if getattr(block, name) is not None]
    if block.by == "words" and len(given) != 1:
        raise PlacedError(place, ABSENT, "words needs exactly one of model and synonyms")
    if block.synonyms is not None and block.nearest is not None:
        raise PlacedError((*place, "nearest"), block.nearest, "but a word's synonyms are drawn from all; leave it out")
    for name in needed:
        if block.by != "words" and name not in given:
            raise PlacedError((*place, name), ABSENT, f"missing, and needed by {block.by}")


def _sides_fit(place: Place, block: CandidatesBlock, bank: Bank | None, task: Task) -> None:
    sides, here = block.sides, (*place, "sides")
    if not task.pair and sides not in (None, "first"):
        raise PlacedError(here, sides, f"but {task.name} has one text; leave it out")
    if sides == "joined" and block.by != "neighbours":
        raise PlacedError(here, sides, "is for neighbours, which look for a pair as a whole; name another")
    if block.by == "transfer" and sides is not None:
        raise PlacedError(here, sides, "but texts that are drawn at random vary nothing; leave it out")
    if bank is None or block.by not in ("neighbours", "transfer"):
        return
    pairs = len(bank.cleaning.text) == 2
    if block.by == "neighbours" and pairs != (sides == "joined") and (sides is not None or not task.pair):
        right = "needs a bank of pairs (bank.text: [ONE, OTHER])" if sides == "joined" else "but the bank is of pairs"
        raise PlacedError(
            here,
            sides or ABSENT,
            f"{right}; " + ("or name another" if sides == "joined" else "use one of single texts"),
        )
    if block.by == "transfer" and pairs != task.pair:
        needed = "pairs (bank.text: [ONE, OTHER])" if task.pair else "single texts"
        raise PlacedError(place, ABSENT, f"the rows of {task.name} take a bank of {needed}")


def _how(place: Place, block: CandidatesBlock) -> Words | Masked | Translated | None:
    if block.by not in HOW:
        return None
    kind = HOW[block.by]
    given = {name: value for name, value in block.given().items() if name in kind.model_fields and value is not None}
    return _made(place, kind, given)


def _made(place: Place, kind: type[Value], given: Mapping[str, Any]) -> Value:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        where, right = split(str(error.errors()[0]["ctx"]["error"]))
        raise PlacedError((*place, *where), ABSENT, right) from error


# --- who uses them ----------------------------------------------------------------------------------------


def candidates_of(given: str | None, method: Method, makers: Mapping[str, object], bank: bool) -> str | None:
    """The maker that a method's data axis draws on; None where it draws on none."""
    if not isinstance(method.data, WithCandidates):
        if given is not None:
            raise PlacedError(("candidates",), given, "but data: original uses none; leave it out, or use data: knn")
        return None
    known = [*makers, *([NEIGHBOURS] if bank and NEIGHBOURS not in makers else [])]
    name = given or NEIGHBOURS
    if name not in known:
        if given is None:
            raise PlacedError((), ABSENT, f"{method.data.kind} needs candidates; give bank: {{files: [...]}}")
        raise unknown(("candidates",), name, "maker of candidates of this recipe", known)
    return name


def check_k(recipe: TaskRecipe) -> None:
    """A method takes no more of a row's candidates than their maker is told to make."""
    for index, use in enumerate(recipe.methods):
        _enough(("method", index, "data", "k"), use.method, use.candidates, recipe)
    for name, model in recipe.models.items():
        if isinstance(model, ModelNode):
            _enough(("models", name, "method", "data", "k"), model.method, model.candidates, recipe)


def _enough(place: Place, method: Method, name: str | None, recipe: TaskRecipe) -> None:
    if name is None or not isinstance(method.data, WithCandidates):
        return
    made = recipe.makers[name].k
    if made is not None and made < method.data.k:
        raise PlacedError(place, method.data.k, f"but candidates.{name}.k is {made}; take no more, or make more")
