"""What counts for a key, and what does not: defaults, added fields, changed defaults, further files.

Two golden files hold what must not move without cause: the keys of the shipped recipes, and the defaults of every spec
beside its version. ``STILLHOUSE_GOLDEN=write pytest tests/pipeline/graph/test_identity.py`` writes both anew, and
refuses a default that changed while its spec's version did not.
"""

import json
import os
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model
from shipped_recipes import RECIPES, local_graph

from pipeline.graph.fingerprint import TAG, differences, further_files, identity, key, plain, sha256
from pipeline.graph.nodes import Graph
from stages.specs.axes.data import Minimax, Neighbours
from stages.specs.axes.targets import Smoothed, TeacherTargets, Virtual
from stages.specs.axes.training import Annealing, Continuation, OnePhase, Progressive
from stages.specs.base import Frozen, Spec
from stages.specs.candidates import RewriteSpec, Translated
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.layers import Attend, Concatenate, Outputs, Pick, Random, Relational
from stages.specs.method import Method
from stages.specs.student import Cut, DistilSpec, Fresh, Pretrained, Train
from stages.specs.tasks import BUILT_IN
from stages.specs.teacher import TeachSpec
from stages.table import STAGES

GOLDEN = Path(__file__).parent / "golden"
WRITE = os.environ.get("STILLHOUSE_GOLDEN") == "write"
AGAIN = "if that is meant, write the golden files anew (see the top of this file), and say so in the changelog"


# --- defaults ---------------------------------------------------------------------------------------


def test_a_field_at_its_default_is_left_out_and_the_kind_stays() -> None:
    assert identity(Train()) == {}
    assert identity(Train(epochs=4)) == {"epochs": 4}
    assert identity(TeacherTargets()) == {"kind": "teacher"}
    assert identity(Method(targets=TeacherTargets(), training=OnePhase(temperature=3.0))) == {
        "targets": {"kind": "teacher"},
        "training": {"kind": "one-phase", "temperature": 3.0},
    }


def test_a_weight_that_training_measures_is_identified_by_its_rule() -> None:
    assert identity(Relational(weight="auto")) == {"kind": "relational", "weight": "auto"}


def test_a_default_that_is_written_out_has_the_same_key() -> None:
    assert key(TeachSpec(), {}) == key(TeachSpec(pooling="mean", layers="all", precision="float16"), {})
    assert key(TeachSpec(), {}) != key(TeachSpec(precision="int8"), {})


METHODS = [
    Method(targets=targets, training=training, data=data, structure=structure)
    for targets, training, data, structure in [
        (Smoothed(), OnePhase(), Method().data, Method().structure),
        (Virtual(), OnePhase(), Method().data, Pick(pairs=((1, 2),))),
        (TeacherTargets(), Annealing(), Minimax(k=8, keep=2), Attend(groups=((1, 2),))),
        (TeacherTargets(), Continuation(), Neighbours(), Concatenate(groups=((1, 2),))),
        (TeacherTargets(), Progressive(), Method().data, Random(layers=(1, 2), student_layers=(1,))),
        (TeacherTargets(), OnePhase(), Method().data, Relational(pair=(1, 2))),
        (TeacherTargets(), OnePhase(), Method().data, Outputs(groups=((1, 2),))),
    ]
]
SPECS: list[Spec] = [
    *(DistilSpec(start=Pretrained(), method=method) for method in METHODS),
    DistilSpec(start=Cut(layers=(0, 2)), train=Train(epochs=9)),
    DistilSpec(start=Fresh(changes=(("hidden_size", 64),))),
    CorpusSpec(task=BUILT_IN["mnli"], source=Files()),
    RewriteSpec(how=Translated()),
    TeachSpec(precision="int8"),
]


def parts(value: object) -> Iterator[type[BaseModel]]:
    """The classes of a model and of all models in it."""
    if isinstance(value, BaseModel):
        yield type(value)
        for name in type(value).model_fields:
            yield from parts(getattr(value, name))


def with_field(value: object, kind: type[BaseModel]) -> object:
    """``value``, where every model of this class has one more field, at its default."""
    if not isinstance(value, BaseModel):
        return value
    fields = {name: with_field(getattr(value, name), kind) for name in type(value).model_fields}
    if type(value) is not kind:
        return value.model_copy(update=fields)
    return create_model(kind.__name__, __base__=kind, added_later=(int, 7)).model_construct(**fields, added_later=7)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_a_field_that_is_added_with_a_default_moves_no_key(spec: Spec) -> None:
    kinds = set(parts(spec))
    assert len(kinds) > 1 or isinstance(spec, TeachSpec)
    for kind in kinds:
        grown = with_field(spec, kind)
        assert isinstance(grown, Spec) and any("added_later" in part.model_fields for part in parts(grown))
        assert key(grown, {"corpus": "c"}) == key(spec, {"corpus": "c"}), kind


def test_a_field_that_is_added_and_used_has_another_key() -> None:
    grown = create_model("Train", __base__=Train, added_later=(int, 7))
    spec = DistilSpec(start=Pretrained())
    used = spec.model_copy(update={"train": grown(added_later=8)})
    assert key(used, {}) != key(spec, {})


# --- what a record says -------------------------------------------------------------------------------


def test_a_record_of_the_same_spec_does_not_differ() -> None:
    for spec in SPECS:
        assert differences(json.loads(json.dumps(plain(spec))), spec) == []


def test_a_default_that_changed_differs_from_the_record_and_is_named() -> None:
    recorded = plain(TeachSpec())
    assert isinstance(recorded, dict)
    found = differences({**recorded, "pooling": "cls"}, TeachSpec())
    assert [str(one) for one in found] == ["pooling: recorded cls, requested mean"]
    assert not found[0].further_files


def test_a_field_that_the_record_lacks_is_no_difference_and_one_that_is_gone_is() -> None:
    recorded = plain(TeachSpec())
    assert isinstance(recorded, dict)
    assert differences({name: value for name, value in recorded.items() if name != "compute"}, TeachSpec()) == []
    found = differences({**recorded, "removed_since": 3}, TeachSpec())
    assert [str(one) for one in found] == ["removed_since: recorded 3, requested None"]


def test_keeping_every_epoch_is_no_part_of_the_key_and_serves_a_request_for_the_best() -> None:
    best, every = (DistilSpec(start=Pretrained(), train=Train(keep=keep)) for keep in ("best", "epochs"))
    assert key(best, {}) == key(every, {})
    assert differences(plain(every), best) == []
    (lacking,) = differences(plain(best), every)
    assert lacking.further_files and str(lacking) == "train.keep: recorded best, requested epochs"


# --- golden: defaults and versions ------------------------------------------------------------------------


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation mentions, and those that they mention."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_of(field.annotation)
    for inner in typing.get_args(annotation):
        yield from models_of(inner)


def defaults_of(kind: type[BaseModel]) -> dict[str, object]:
    """Field -> its default in JSON's own types; fields without one, and those that are no identity, are left out."""
    return {
        name: of_identity(field.get_default(call_default_factory=True, validated_data={}))
        for name, field in kind.model_fields.items()
        if name != TAG and not field.is_required() and further_files(field) is None
    }


def of_identity(value: object) -> object:
    """``value`` in JSON's own types, without the fields of models that are no identity."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        return {name: of_identity(getattr(value, name)) for name, field in fields if further_files(field) is None}
    return plain(value)


def all_defaults() -> dict[str, Any]:
    return {
        kind.__name__: {
            "version": kind.version,
            "defaults": {model.__name__: defaults_of(model) for model in dict.fromkeys(models_of(kind))},
        }
        for kind in STAGES
    }


def changed_without_a_version(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``spec.model.field: old -> new`` for each recorded default that is another now, at the same version."""
    found = []
    for spec, was in before.items():
        if spec not in now or was["version"] != now[spec]["version"]:
            continue
        for model, fields in was["defaults"].items():
            current = now[spec]["defaults"].get(model, {})
            found += [
                f"{spec}: {model}.{name}: {value} -> {current.get(name, 'gone')}"
                for name, value in fields.items()
                if name not in current or not holds(current[name], value)
            ]
    return found


def holds(now: Any, before: Any) -> bool:
    """Whether a default is as it was, but for fields that were added to a model in it: these have defaults of their
    own, and are no difference from a record that lacks them."""
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        return all(name in now and holds(now[name], value) for name, value in before.items())
    return bool(now == before)


def test_no_default_changes_without_its_specs_version() -> None:
    file, now = GOLDEN / "spec_defaults.json", json.loads(json.dumps(all_defaults()))
    before = json.loads(file.read_text("utf-8")) if file.exists() else {}
    assert changed_without_a_version(before, now) == [], "raise the version of the spec: records hold the old default"
    if WRITE:
        file.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", "utf-8")
    assert json.loads(file.read_text("utf-8")) == now, AGAIN


def test_a_default_that_changes_is_noticed() -> None:
    now = all_defaults()
    before = json.loads(json.dumps(now))
    before["DistilSpec"]["defaults"]["Train"]["epochs"] = 99
    assert changed_without_a_version(before, now) == ["DistilSpec: Train.epochs: 99 -> 3"]
    before["DistilSpec"]["defaults"]["Train"]["epochs"] = 3
    before["DistilSpec"]["defaults"]["DistilSpec"]["train"]["epochs"] = 99
    (within,) = changed_without_a_version(before, now)
    assert within.startswith("DistilSpec: DistilSpec.train: ")
    del before["DistilSpec"]["defaults"]["DistilSpec"]["train"]["epochs"]
    assert changed_without_a_version(before, now) == [], "a field that was added within a default"
    before["DistilSpec"]["defaults"]["Train"]["epochs"] = 99
    before["DistilSpec"]["version"] = 1
    assert changed_without_a_version(before, now) == []


# --- golden: keys of the shipped recipes --------------------------------------------------------------------


def by_role(graph: Graph) -> dict[str, str]:
    """Role -> how many nodes, and a digest over their names and keys."""
    lines: dict[str, list[str]] = {}
    for node in graph.nodes:
        lines.setdefault(node.role, []).append(f"{node.name} {node.key}")
    return {role: f"{len(found)} nodes, {sha256(chr(10).join(sorted(found)))[:16]}" for role, found in lines.items()}


def test_the_keys_of_the_shipped_recipes_stay_as_they_are(recipe_assets: Path) -> None:
    now = {path.name: by_role(local_graph(path, recipe_assets)) for path in RECIPES}
    assert len(now) > 10
    file = GOLDEN / "recipe_keys.json"
    if WRITE:
        file.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", "utf-8")
    assert json.loads(file.read_text("utf-8")) == now, AGAIN


class Inner(Frozen):
    value: int = 1


class Outer(Frozen):
    items: tuple[Inner, ...] = (Inner(), Inner(value=2))


def test_models_in_a_list_are_compared_field_by_field() -> None:
    assert differences({"items": [{"value": 1}, {}]}, Outer(items=(Inner(), Inner()))) == []
    (changed,) = differences({"items": [{"value": 1}, {"value": 5}]}, Outer())
    assert str(changed) == "items[1].value: recorded 5, requested 2"
    (longer,) = differences({"items": [{"value": 1}]}, Outer())
    assert longer.field == "items"
