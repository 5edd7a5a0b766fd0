import enum
import math
import unicodedata
from collections import OrderedDict
from pathlib import Path

import pytest

from pipeline.graph.fingerprint import canonical, differences, further_files, key, plain
from stages.specs.axes.augmentation import Augmentation
from stages.specs.axes.targets import Smoothed, TeacherTargets
from stages.specs.axes.training import Annealing
from stages.specs.base import Spec
from stages.specs.corpus import CorpusSpec, Files, Generated, Hub
from stages.specs.evaluation import EvaluateSpec
from stages.specs.method import Method
from stages.specs.student import Cut, DistilSpec, Train
from stages.specs.tasks import GLUE
from stages.specs.teacher import TeachSpec


def test_the_order_of_keys_does_not_matter() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == canonical({"a": {"c": 3, "d": 2}, "b": 1})
    assert canonical(OrderedDict(b=1, a=2)) == '{"a":2,"b":1}'


def test_the_order_of_items_matters() -> None:
    assert canonical([1, 2]) != canonical([2, 1])


def test_tuples_and_lists_are_the_same() -> None:
    assert canonical({"layers": (0, 2)}) == canonical({"layers": [0, 2]}) == '{"layers":[0,2]}'


def test_any_text_is_ascii_and_is_told_from_any_other() -> None:
    texts = [
        "caf\u00e9",
        unicodedata.normalize("NFD", "caf\u00e9"),
        "cafe",
        "\U0001f600",
        "\ud83d",
        "",
        "\u2028",
        "a\nb",
    ]
    found = [canonical(text) for text in texts]
    assert len(set(found)) == len(texts)
    assert all(text.isascii() for text in found)


def test_numbers_that_differ_have_texts_that_differ() -> None:
    values = [0, 1, True, False, None, 0.1, 0.1 + 2**-55, 1e-05, 1e300, "1", 1.5]
    assert len({canonical(value) for value in values}) == len(values)


def test_a_model_is_its_fields_defaults_too() -> None:
    assert canonical(TeacherTargets()) == canonical({"kind": "teacher", "shares": None, "calibrated": False})
    assert canonical(TeachSpec()) == canonical(TeachSpec(pooling="mean", layers="all"))


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [len, lambda: None, Path("runs"), {1, 2}, frozenset(), b"bytes", object(), Colour.RED, 1j, Train, iter([1])],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_stable_identity_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no stable identity; use numbers, strings, lists or models"):
        canonical({"train": value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused(value: float) -> None:
    with pytest.raises(
        ValueError, match=r"^value\.rates\[1\]: -?(nan|inf) has no canonical form; use a finite number$"
    ):
        canonical({"rates": [0.1, value]})


@pytest.mark.parametrize("name", [1, None, 1.5, ("a",)])
def test_keys_that_are_no_strings_are_refused(name: object) -> None:
    with pytest.raises(TypeError, match="is no string; canonical JSON has string keys only"):
        canonical({"changes": {name: 1}})


def test_a_refusal_names_the_place() -> None:
    with pytest.raises(TypeError, match=r"^value\.train\.files\[0\]: "):
        canonical({"train": {"files": [Path("a")]}})


def test_plain_is_what_json_reads_back() -> None:
    spec = DistilSpec(start=Cut(layers=(0, 2)), method=Method(targets=TeacherTargets()))
    assert plain(spec) == spec.model_dump(mode="json")


# --- keys -----------------------------------------------------------------------------------------

CORPUS = CorpusSpec(task=GLUE["sst2"], source=Files())
DISTIL = DistilSpec(start=Cut(layers=(0, 2)))
TEACH = TeachSpec()
EVALUATE = EvaluateSpec()

CHANGES: dict[Spec, dict[str, list[object]]] = {
    CORPUS: {
        "task": [
            GLUE["rte"],
            *(
                GLUE["sst2"].model_copy(update=changed)
                for changed in (
                    {"name": "mine"},
                    {"text": ("text",)},
                    {"label": "gold"},
                    {"labels": ("positive", "negative")},
                    {"metrics": ("f1",)},
                    {"dev": ()},
                    {"test": ()},
                )
            ),
        ],
        "source": [
            Hub(repository="glue", revision="a"),
            Hub(repository="glue", revision="b"),
            Hub(repository="glue", config="x", revision="b"),
            Generated(),
            Generated(seed=1),
            Generated(train=9),
        ],
        "max_length": [64],
        "train_rows": [100],
        "eval_rows": [100],
        "augmentation": [Augmentation(), Augmentation(views=2), Augmentation(views=2, flip=False)],
        "sample_seed": [1],
        "holdout": [0.2],
        "holdout_min_rows": [300],
    },
    DISTIL: {
        "start": [Cut(layers=(2, 0)), Cut(layers=(0, 2), label_order=(1, 0))],
        "method": [
            Method(targets=TeacherTargets()),
            Method(targets=Smoothed()),
            Method(targets=Smoothed(epsilon=0.2)),
            Method(targets=Smoothed(distribution=(0.5, 0.5))),
            Method(targets=TeacherTargets(), training=Annealing()),
            Method(targets=TeacherTargets(), training=Annealing(max_temperature=3)),
            Method(targets=TeacherTargets(), training=Annealing(first_phase=0.5)),
        ],
        "train": [
            Train(epochs=4),
            Train(learning_rate=1e-5),
            Train(batch_size=8),
            Train(warmup=0.0),
            Train(weight_decay=0.0),
            Train(max_grad_norm=2.0),
            Train(precision="bfloat16"),
            Train(unpadded=True),
            Train(freeze=("embeddings",)),
            Train(select="dev"),
            Train(select_by="likelihood"),
            Train(select_metric="accuracy"),
            Train(seed=1),
        ],
        "rates": [(1e-4, 2e-4), (1e-4, 3e-4)],
        "live_label_orders": [((1, 0),), (None, (1, 0))],
    },
    TEACH: {
        "pooling": ["cls"],
        "layers": [(0,), (0, 1)],
        "part": ["tokens", "scores", "attention"],
        "compute": ["bfloat16", "float16"],
        "precision": ["float32"],
        "splits": [("train", "holdout")],
        "label_order": [(1, 0)],
        "logits": [False],
    },
    EVALUATE: {"label_order": [(1, 0)]},
}


@pytest.mark.parametrize("spec", list(CHANGES), ids=lambda spec: spec.stage)
def test_every_field_of_a_spec_changes_the_key(spec: Spec) -> None:
    changes = CHANGES[spec]
    fields = type(spec).model_fields
    unmarked = {name for name, field in fields.items() if further_files(field) is None}
    assert set(changes) == unmarked, "a new field needs a case here"
    keys = [key(spec.model_copy(update={name: value}), {}) for name, values in changes.items() for value in values]
    assert len({key(spec, {}), *keys}) == 1 + len(keys)


def test_what_a_teachers_store_does_with_bad_rows_is_in_no_key() -> None:
    assert key(TeachSpec(on_bad_rows="quarantine"), {}) == key(TEACH, {})
    assert plain(TeachSpec(on_bad_rows="quarantine")) != plain(TEACH), "but the record has it"


def test_the_compression_of_a_store_is_in_no_key_and_a_store_serves_requests_with_another() -> None:
    plainly = TeachSpec(compression="none")
    assert key(plainly, {}) == key(TEACH, {})
    assert not differences(plain(TEACH), plainly) and not differences(plain(plainly), TEACH)


def test_equal_specs_of_different_stages_have_different_keys() -> None:
    assert key(TeachSpec(), {}) != key(EvaluateSpec(), {})


def test_the_version_of_a_stage_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(TEACH, {})
    monkeypatch.setattr(TeachSpec, "version", TeachSpec.version + 1)
    assert key(TEACH, {}) != before


def test_inputs_change_the_key_by_name_and_by_content() -> None:
    inputs = [{}, {"corpus": "a"}, {"corpus": "b"}, {"model": "a"}, {"corpus": "a", "model": "b"}]
    assert len({key(EVALUATE, given) for given in inputs}) == len(inputs)
    assert key(EVALUATE, {"corpus": "a", "model": "b"}) == key(EVALUATE, {"model": "b", "corpus": "a"})


def test_a_key_is_a_sha256_in_hexadecimal() -> None:
    assert len(key(TEACH, {})) == 64
    assert set(key(TEACH, {})) <= set("0123456789abcdef")
