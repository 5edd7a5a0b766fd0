"""Texts beside a task's own, as nodes of the graph: what is shared, what names them, what leaves their keys alone."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, Graph, Node, Quantity
from pipeline.plan.planner import selected_keys
from stages.specs.candidates import NeighboursSpec, RerankSpec, RewriteSpec, TransferSpec
from stages.specs.teacher import TeachSpec

BANK = ("bank", "embed", "index")
TABLE, TOKENS = "candidates/neighbours@tiny", "unlabelled/candidates:neighbours@tiny"
STORE = "teach/candidates:neighbours@tiny"
BESIDE = (*BANK, TABLE, TOKENS, STORE)
"""All that is there for candidates of one task."""

TWO = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
PAIR = {"name": "tiny", "text": ["sentence", "second"], "labels": ["bad", "good"]}
DRAWN = {"use": "knn", "label": "drawn", "candidates": "drawn"}


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    assets = write_plannable_assets(tmp_path / "assets", ("tiny", "other"))
    write_plannable_model(assets / "encoder", hidden_size=24)
    (assets / "bank.txt").write_text("".join(f"a sentence of the bank, number {row}\n" for row in range(50)), "utf-8")
    pairs = {name: [f"{name} text of the bank, number {row}" for row in range(50)] for name in ("one", "two")}
    pq.write_table(pa.table(pairs), assets / "pairs.parquet")
    return assets


def graph(assets: Path, method: object = "knn", /, **changes: object) -> Graph:
    """The graph of the tiny recipe with a bank. ``bank`` has changes of the bank's block."""
    more = changes.pop("bank", {})
    assert isinstance(more, dict)
    bank = {"files": [str(assets / "bank.txt")], "encoder": str(assets / "encoder"), **more}
    return graph_of(assets, assets.parent / "runs", **{"method": method, "bank": bank, **changes})[1]


def composed(assets: Path, method: object = "knn", /, **changes: object) -> dict[str, Node]:
    return dict(nodes_by_name(graph(assets, method, **changes)))


def changed(before: dict[str, Node], after: dict[str, Node]) -> set[str]:
    """The names of nodes in both graphs whose keys differ."""
    return {name for name in before.keys() & after.keys() if before[name].key != after[name].key}


def student(method: str = "knn", task: str = "tiny") -> set[str]:
    return {f"distil/{method}/two/0@{task}", f"evaluate/{method}/two/0@{task}"}


def sources(node: Node, prefix: str = "") -> dict[str, str]:
    """Input -> the name of its node, for inputs whose names start with a prefix."""
    given = {name: edge for name, edge in node.inputs.items() if name.startswith(prefix) and isinstance(edge, Edge)}
    return {name: edge.source.name for name, edge in given.items()}


def k_of(node: Node) -> int:
    assert isinstance(node.spec, NeighboursSpec | TransferSpec | RewriteSpec | RerankSpec)
    return node.spec.k


def refusal(assets: Path, method: object = "knn", /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        composed(assets, method, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def taking(k: int, label: str = "knn") -> dict[str, object]:
    return {"use": "knn", "label": label, "data": {"k": k}}


# --- what is shared -----------------------------------------------------------------------------------


def test_bank_embeddings_and_index_are_shared_by_all_tasks(assets: Path) -> None:
    alone, both = composed(assets), composed(assets, task=TWO)
    for name in BANK:
        (node,) = [node for node in both.values() if node.role == name]
        assert (node.name, node.task) == (name, "")
    assert not changed(alone, both)
    for task in ("tiny", "other"):
        made = sources(both[f"candidates/neighbours@{task}"])
        assert made == {"corpus": f"corpus@{task}", "bank": "bank", "embeddings": "embed", "index": "index"}
    assert both["candidates/neighbours@other"].key != both[TABLE].key


def test_the_inputs_of_a_student_with_candidates(assets: Path) -> None:
    found = composed(assets)
    assert sources(found["distil/knn/two/0@tiny"]) == {
        "corpus": "corpus@tiny",
        "start": "finetune@tiny",
        "outputs": "teach@tiny",
        "candidates": TABLE,
        "candidate_rows": TOKENS,
        "candidate_outputs": STORE,
    }
    assert sources(found[TOKENS]) == {"candidates": TABLE, "corpus": "corpus@tiny"}
    assert sources(found[STORE]) == {"corpus": TOKENS, "model": "finetune@tiny"}
    assert found[STORE].spec == TeachSpec(layers=(), splits=("candidates",))


def test_another_entry_of_candidates_changes_no_key(assets: Path) -> None:
    makers = {"drawn": {"by": "transfer"}}
    alone, unused = composed(assets), composed(assets, candidates=makers)
    beside = composed(assets, ["knn", DRAWN], candidates=makers)
    assert unused.keys() == alone.keys()
    assert not changed(alone, unused) and not changed(alone, beside)
    assert beside.keys() - alone.keys() == student("drawn") | {
        "candidates/drawn@tiny",
        "unlabelled/candidates:drawn@tiny",
        "teach/candidates:drawn@tiny",
    }
    assert sources(beside["candidates/drawn@tiny"]) == {"corpus": "corpus@tiny", "bank": "bank"}


@pytest.mark.parametrize("method", ["no-kd", "vanilla-kd"])
def test_a_method_without_candidates_changes_no_key_and_adds_only_its_student(assets: Path, method: str) -> None:
    alone, beside = composed(assets), composed(assets, [method, "knn"])
    assert not changed(alone, beside)
    assert beside.keys() - alone.keys() == student(method)
    assert not sources(beside[f"distil/{method}/two/0@tiny"], "candidate")


def test_a_bank_that_no_method_uses_is_not_built(assets: Path) -> None:
    found = composed(assets, ["no-kd", "vanilla-kd"], candidates={"drawn": {"by": "transfer"}})
    assert {node.role for node in found.values()} == {"corpus", "finetune", "teach", "distil", "evaluate"}


def test_a_bank_beside_a_recipe_without_candidates_changes_no_key(assets: Path) -> None:
    plain = graph_of(assets, assets.parent / "runs", method="vanilla-kd")[1]
    assert not changed(dict(nodes_by_name(plain)), composed(assets, ["vanilla-kd", "knn"]))


# --- the transfer set -----------------------------------------------------------------------------------

TRANSFER_TABLE = "candidates/transfer@tiny"


def test_the_method_transfer_draws_random_texts_without_an_entry_in_candidates(assets: Path) -> None:
    found = composed(assets, ["knn", "transfer"])
    assert found[TRANSFER_TABLE].spec == TransferSpec(k=8)
    assert sources(found[TRANSFER_TABLE]) == {"corpus": "corpus@tiny", "bank": "bank"}
    assert sources(found["distil/transfer/two/0@tiny"], "candidates") == {"candidates": TRANSFER_TABLE}
    assert not changed(composed(assets), found)
    alone = composed(assets, "transfer")
    assert not {"embed", "index"} & alone.keys(), "a bank that is only drawn from is not embedded"


def test_any_method_may_use_the_transfer_set_and_transfer_another_table(assets: Path) -> None:
    minimax = {"use": "minimax-knn", "candidates": "transfer"}
    found = composed(assets, [minimax, {"use": "transfer", "candidates": "neighbours"}])
    assert sources(found["distil/minimax-knn/two/0@tiny"], "candidates") == {"candidates": TRANSFER_TABLE}
    assert sources(found["distil/transfer/two/0@tiny"], "candidates") == {"candidates": TABLE}


def test_an_entry_called_transfer_changes_the_keys_that_it_has(assets: Path) -> None:
    seeded = composed(assets, "transfer", candidates={"transfer": {"k": 16, "seed": 3}})
    assert seeded[TRANSFER_TABLE].spec == TransferSpec(k=16, seed=3)
    other = composed(assets, "transfer", candidates={"transfer": {"by": "neighbours"}})
    assert other[TRANSFER_TABLE].spec == NeighboursSpec(k=8)


def test_half_of_the_transfer_set_of_pairs_are_neighbours_unless_the_bank_has_pairs(assets: Path) -> None:
    found = composed(assets, "transfer", task=PAIR)
    assert found[TRANSFER_TABLE].spec == NeighboursSpec(k=8, sides="either", random=0.5)
    more = {"transfer": {"random": 0.25, "sides": "second", "seed": 2}}
    changes = composed(assets, "transfer", task=PAIR, candidates=more)[TRANSFER_TABLE].spec
    assert changes == NeighboursSpec(k=8, sides="second", random=0.25, seed=2)
    bank = {"files": [str(assets / "pairs.parquet")], "text": ["one", "two"]}
    assert composed(assets, "transfer", task=PAIR, bank=bank)[TRANSFER_TABLE].spec == TransferSpec(k=8)


def test_a_seed_of_neighbours_without_random_texts_is_refused(assets: Path) -> None:
    line = refusal(assets, candidates={"neighbours": {"seed": 3}})
    assert line == (
        "candidates.neighbours.seed: 3, but random is 0, and nothing else is drawn; give random, or leave it out"
    )


def test_random_texts_for_pairs_from_a_bank_of_single_texts_are_refused_with_what_to_write(assets: Path) -> None:
    line = refusal(assets, DRAWN, task=PAIR, candidates={"drawn": "transfer"})
    assert line == (
        "candidates.drawn: the rows of tiny take a bank of pairs (bank.text: [ONE, OTHER]); for one of single texts "
        "use by: neighbours, with random: 0.5"
    )


# --- how many -----------------------------------------------------------------------------------------


def test_k_of_the_table_is_the_largest_that_a_method_uses(assets: Path) -> None:
    assert k_of(composed(assets, [taking(3), taking(5, "five")])[TABLE]) == 5
    minimax = {"use": "minimax-knn", "data": {"k": 6, "keep": 2}}
    assert k_of(composed(assets, [taking(3), minimax])[TABLE]) == 6
    models = {"one": {"cut": {"of": "teacher", "layers": [1]}, "method": {"use": "knn", "data": {"k": 7}}}}
    found = composed(assets, [taking(3), {"use": "vanilla-kd", "taught_by": "one"}], models=models)
    assert k_of(found[TABLE]) == 7


def test_methods_that_use_another_table_do_not_count(assets: Path) -> None:
    found = composed(assets, [taking(3), {**DRAWN, "data": {"k": 9}}], candidates={"drawn": {"by": "transfer"}})
    assert (k_of(found[TABLE]), k_of(found["candidates/drawn@tiny"])) == (3, 9)


def test_a_method_that_uses_more_needs_another_table_from_the_same_embeddings(assets: Path) -> None:
    before, after = composed(assets, taking(3)), composed(assets, [taking(3), taking(5, "five")])
    assert changed(before, after) == {TABLE, TOKENS, STORE, *student()}


def test_with_k_in_the_recipe_the_table_does_not_depend_on_the_methods(
    assets: Path,
) -> None:
    makers = {"neighbours": {"k": 16}}
    before = composed(assets, taking(3), candidates=makers)
    after = composed(assets, [taking(3), taking(5, "five")], candidates=makers)
    assert k_of(before[TABLE]) == 16
    assert not changed(before, after)


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("knn", {"weight": 0.5}),
        ("knn", {"warmup_epochs": 1}),
        ("minimax-knn", {"keep": 2}),
        ("minimax-knn", {"every": 1}),
        ("minimax-knn", {"weight": 0.5}),
    ],
)
def test_how_candidates_are_used_affects_only_the_student(
    assets: Path, method: str, setting: dict[str, object]
) -> None:
    before = composed(assets, {"use": method, "data": {"k": 4, **({"keep": 3} if method == "minimax-knn" else {})}})
    settings = {"k": 4, **({"keep": 3} if method == "minimax-knn" else {}), **setting}
    after = composed(assets, {"use": method, "data": settings})
    assert changed(before, after) == student(method)


def test_all_methods_with_the_same_k_share_a_table(assets: Path) -> None:
    found = composed(assets, ["knn", "minimax-knn", {"use": "annealing-kd", "data": "knn"}])
    reading = [sources(node, "candidate") for node in found.values() if node.role == "distil"]
    assert len(reading) == 3
    assert all(one == reading[0] for one in reading)


def test_rows_and_bytes_are_bounded_before_anything_runs(assets: Path) -> None:
    texts = pa.table({"text": [f"a sentence of the bank, number {row}" for row in range(50)]})
    pq.write_table(texts, assets / "bank.parquet")
    found = composed(assets, taking(4), bank={"files": [str(assets / "bank.parquet")]})
    assert found["bank"].rows == Quantity.at_most(50)
    # 24 numbers of 2 bytes and a key of 16 bytes a row.
    assert (found["embed"].rows, found["embed"].bytes) == (Quantity.at_most(50), Quantity.at_most(50 * (24 * 2 + 16)))
    assert found[TABLE].rows == Quantity.exact(81)
    assert found[TOKENS].rows == found[STORE].rows == Quantity.at_most(4 * 81)
    # 16 bytes of key and 2 logits of 4 bytes.
    assert found[STORE].bytes == Quantity.at_most(4 * 81 * (16 + 2 * 4))


# --- the bank -----------------------------------------------------------------------------------------


def test_tf_idf_needs_neither_an_encoder_nor_an_index(assets: Path) -> None:
    found = composed(assets, bank={"encoder": "tfidf"})
    assert "index" not in found
    assert found["embed"].inputs.keys() == {"bank"}
    assert found[TABLE].inputs.keys() == {"corpus", "bank", "embeddings"}


def test_neighbours_by_a_model_need_the_encoder_that_embedded_the_bank(assets: Path) -> None:
    found = composed(assets)
    assert found[TABLE].input_keys["encoder"] == found["embed"].input_keys["encoder"]


def test_a_bank_is_identified_by_content_not_by_file_name(assets: Path) -> None:
    before = composed(assets)
    shutil.copy(assets / "bank.txt", assets / "moved.txt")
    same = composed(assets, bank={"files": [str(assets / "moved.txt")]})
    assert not changed(before, same)
    (assets / "bank.txt").write_text("quite another sentence\n" * 50, "utf-8")
    assert changed(before, composed(assets)) == {*BESIDE, *student()}


def test_the_files_of_a_bank_are_numbered_in_their_order(assets: Path) -> None:
    (assets / "more.txt").write_text("one more sentence of it\n", "utf-8")
    files = [str(assets / name) for name in ("more.txt", "bank.txt")]
    found = composed(assets, bank={"files": files})["bank"]
    assert list(found.inputs) == ["files/0", "files/1"]
    first = composed(assets)["bank"].input_keys["files/0"]
    assert found.input_keys["files/1"] == first != found.input_keys["files/0"]


def test_cleaning_changes_everything_built_from_the_bank_and_index_settings_only_the_index(assets: Path) -> None:
    before = composed(assets)
    assert changed(before, composed(assets, bank={"max_words": 9})) == {*BESIDE, *student()}
    indexed = changed(before, composed(assets, bank={"index": {"kind": "exact"}}))
    assert indexed == {"index", TABLE, TOKENS, STORE, *student()}


# --- what the teacher thinks of them --------------------------------------------------------------------


@pytest.mark.parametrize("block", [{"rerank": True}, {"confidence": [0.6, 1.0]}, {"balance": 1.5}])
def test_candidates_that_the_teacher_filters_are_searched_in_greater_number(
    assets: Path, block: dict[str, object]
) -> None:
    found = composed(assets, taking(3), candidates={"neighbours": block})
    sifted = found["rerank/neighbours@tiny"]
    assert (k_of(found[TABLE]), k_of(sifted)) == (4 * 3, 3)
    assert sources(sifted) == {"candidates": TABLE, "outputs": "teach@tiny", "candidate_outputs": STORE}
    read = sources(found["distil/knn/two/0@tiny"], "candidate")
    assert read == {
        "candidates": "rerank/neighbours@tiny",
        "candidate_rows": TOKENS,
        "candidate_outputs": STORE,
    }
    store = found[STORE].spec
    assert isinstance(store, TeachSpec)
    assert store.layers == ((4,) if "rerank" in block else ())
    assert found[TOKENS].rows == Quantity.at_most(81 * 12)


def test_found_sets_the_number_searched_and_must_not_be_below_k(assets: Path) -> None:
    makers = {"neighbours": {"balance": 1.5, "found": 7}}
    assert k_of(composed(assets, taking(3), candidates=makers)[TABLE]) == 7
    line = refusal(assets, taking(8), candidates=makers)
    assert line == "candidates.neighbours.found: 7, but 8 are kept for each row; give 8 or more"


def test_without_settings_for_the_teacher_nothing_is_filtered(assets: Path) -> None:
    assert "rerank/neighbours@tiny" not in composed(assets, candidates={"neighbours": {"max_distance": 0.3}})


def test_distances_bound_the_search_unless_candidates_are_reranked(assets: Path) -> None:
    bounds = {"min_distance": 0.1, "max_distance": 0.4}
    plain = composed(assets, candidates={"neighbours": bounds})[TABLE].spec
    assert isinstance(plain, NeighboursSpec)
    assert (plain.min_distance, plain.max_distance) == (0.1, 0.4)
    found = composed(assets, candidates={"neighbours": {**bounds, "rerank": True}})
    table, reranking = found[TABLE].spec, found["rerank/neighbours@tiny"].spec
    assert isinstance(table, NeighboursSpec) and isinstance(reranking, RerankSpec)
    assert (table.min_distance, table.max_distance) == (0.0, 1.0)
    assert (reranking.min_distance, reranking.max_distance) == (0.1, 0.4)


def test_other_filter_settings_reuse_the_table_and_the_store(assets: Path) -> None:
    """Filtering by the teacher's confidence needs no new outputs of the teacher."""
    before, after = (composed(assets, candidates={"neighbours": {"confidence": [least, 1.0]}}) for least in (0.6, 0.7))
    assert changed(before, after) == {"rerank/neighbours@tiny", *student()}


def test_reranking_without_the_teachers_last_layer_in_store_is_refused(assets: Path) -> None:
    line = refusal(assets, candidates={"neighbours": {"rerank": True}}, store={"layers": [0, 2]})
    assert line == (
        "candidates.neighbours.rerank: needs the teacher's last layer, 4, but store.layers is [0, 2]; add it there"
    )
    found = composed(assets, candidates={"neighbours": {"rerank": True}}, store={"layers": [0, 4]})
    assert "rerank/neighbours@tiny" in found


# --- who teaches, and whose tokens ------------------------------------------------------------------------


MODELS = {
    "one": {"cut": {"of": "teacher", "layers": [1, 2, 3]}, "method": "vanilla-kd"},
    "two": {"cut": {"of": "teacher", "layers": [1, 2]}, "method": "vanilla-kd"},
}


def test_the_stores_of_several_teachers_on_candidates_have_the_order_of_their_stores_on_rows(assets: Path) -> None:
    method = {"use": "knn", "taught_by": ["two", "teacher", "one"]}
    read = sources(composed(assets, method, models=MODELS)["distil/knn/two/0@tiny"])
    assert {name: read[name] for name in read if "outputs" in name} == {
        "outputs/0": "teach/two@tiny",
        "outputs/1": "teach@tiny",
        "outputs/2": "teach/one@tiny",
        "candidate_outputs/0": "teach/two/candidates:neighbours@tiny",
        "candidate_outputs/1": STORE,
        "candidate_outputs/2": "teach/one/candidates:neighbours@tiny",
    }


def test_another_teacher_labels_the_same_candidates(assets: Path) -> None:
    found = composed(assets, ["knn", {"use": "knn", "label": "other", "taught_by": "one"}], models=MODELS)
    assert not changed(composed(assets), found)
    read = sources(found["distil/other/two/0@tiny"], "candidate")
    assert read == {
        "candidates": TABLE,
        "candidate_rows": TOKENS,
        "candidate_outputs": "teach/one/candidates:neighbours@tiny",
    }


def test_only_the_teachers_last_layer_is_stored_for_reranking(
    assets: Path,
) -> None:
    method = {"use": "knn", "taught_by": "one"}
    found = composed(assets, method, models=MODELS, candidates={"neighbours": {"rerank": True}})
    own, teachers = found["teach/one/candidates:neighbours@tiny"].spec, found[STORE].spec
    assert isinstance(own, TeachSpec) and isinstance(teachers, TeachSpec)
    assert (own.layers, teachers.layers) == ((), (4,))


def test_the_first_generation_of_a_student_labels_the_candidates_as_well(assets: Path) -> None:
    found = composed(assets, ["no-kd", {"use": "knn", "taught_by": "itself"}])
    read = sources(found["distil/knn/two/0@tiny"], "candidate_outputs")
    assert read == {"candidate_outputs": "teach/no-kd/two/0/candidates:neighbours@tiny"}
    speaker = found["teach/no-kd/two/0/candidates:neighbours@tiny"]
    assert sources(speaker) == {"corpus": TOKENS, "model": "distil/no-kd/two/0@tiny"}


def test_a_student_with_another_tokenizer_has_its_own_tokenised_candidates(assets: Path) -> None:
    other = write_plannable_model(assets / "student")
    (other / "tokenizer.json").write_text('{"vocab": {"a": 1}}', "utf-8")
    found = composed(assets, student={"label": "two", "model": str(other)})
    read = sources(found["distil/knn/two/0@tiny"])
    assert read["candidates"] == TABLE and read["candidate_outputs"] == STORE
    own = found[read["candidate_rows"]]
    assert own.name.startswith("unlabelled/") and own.name.endswith("/candidates:neighbours@tiny")
    assert own.name != TOKENS
    assert sources(own) == {"candidates": TABLE, "corpus": read["corpus"]}
    teachers = sources(found[STORE])["corpus"]
    assert teachers == TOKENS
    assert sources(found[TOKENS])["corpus"] == sources(found[TABLE])["corpus"] == sources(found["teach@tiny"])["corpus"]
    assert sources(found[TOKENS])["corpus"] != read["corpus"]
    alone = composed(assets)
    assert found[TABLE].key == alone[TABLE].key and found[STORE].key == alone[STORE].key


# --- pairs ------------------------------------------------------------------------------------------------


def sides_of(node: Node) -> str:
    assert isinstance(node.spec, NeighboursSpec | RewriteSpec)
    return node.spec.sides


def test_either_text_of_a_pair_is_varied_by_default(assets: Path) -> None:
    (assets / "words.tsv").write_text("good\tfine, great\n", "utf-8")
    makers = {"words": {"by": "words", "synonyms": str(assets / "words.tsv")}}
    methods = ["knn", {"use": "knn", "label": "words", "candidates": "words"}]
    found = composed(assets, methods, task=[PAIR, TWO[1]], candidates=makers)
    for maker in ("neighbours", "words"):
        result = [sides_of(found[f"candidates/{maker}@{task}"]) for task in ("tiny", "other")]
        assert result == ["either", "first"]


def test_a_task_of_pairs_may_have_other_sides_than_the_rest(assets: Path) -> None:
    tasks = [PAIR, {**PAIR, "name": "other"}]
    overrides = {"other": {"candidates": {"neighbours": {"sides": "both"}}}}
    before, found = composed(assets, task=tasks), composed(assets, task=tasks, overrides=overrides)
    assert [sides_of(found[f"candidates/neighbours@{task}"]) for task in ("tiny", "other")] == ["either", "both"]
    touched = {TABLE, TOKENS, STORE, *student()}
    assert changed(before, found) == {name.replace("@tiny", "@other") for name in touched}


def test_a_task_of_single_texts_has_no_second_side(assets: Path) -> None:
    line = refusal(assets, candidates={"neighbours": {"sides": "both"}})
    assert line == "candidates.neighbours.sides: both, but tiny has one text; leave it out"


def test_a_bank_of_pairs_is_searched_for_the_pair_as_a_whole(assets: Path) -> None:
    bank = {"files": [str(assets / "pairs.parquet")], "text": ["one", "two"]}
    for candidates in ({}, {"neighbours": {"sides": "joined"}}):
        found = composed(assets, task=PAIR, bank=bank, candidates=candidates)
        assert sides_of(found[TABLE]) == "joined"
    line = refusal(assets, task=PAIR, candidates={"neighbours": {"sides": "joined"}})
    assert line.startswith("candidates.neighbours.sides: joined, needs a bank of pairs (bank.text: [ONE, OTHER])")


# --- --stage ------------------------------------------------------------------------------------------------


def meant(found: Graph, stage: str) -> set[str]:
    """The nodes selected_keys by name, and those that are rebuilt with them."""
    keys = found.dependants(selected_keys(found, stage))
    return {node.name for node in found.nodes if node.key in keys}


def test_a_stage_of_the_bank_or_of_candidates_is_selected_with_its_dependants(assets: Path) -> None:
    found = graph(assets, ["vanilla-kd", "knn"], candidates={"neighbours": {"balance": 2.0}})
    made = {TABLE, TOKENS, STORE, "rerank/neighbours@tiny", *student()}
    assert meant(found, "bank") == {*BANK, *made}
    assert meant(found, "embed") == {"embed", "index", *made}
    assert meant(found, "index") == {"index", *made}
    for stage in ("candidates", "candidates/neighbours", "neighbours", "candidates@tiny"):
        assert meant(found, stage) == made, stage
    assert meant(found, "unlabelled") == made - {TABLE}
    assert meant(found, "sift") == {"rerank/neighbours@tiny", *student()}
    assert {STORE, "teach@tiny"} <= meant(found, "teach")


def test_roles_name_the_purpose_of_a_node(assets: Path) -> None:
    found = composed(assets, candidates={"neighbours": {"balance": 2.0}})
    roles = {name: node.role for name, node in found.items() if name in (*BESIDE, "rerank/neighbours@tiny")}
    assert roles == {
        "bank": "bank",
        "embed": "embed",
        "index": "index",
        TABLE: "candidates",
        TOKENS: "candidates",
        "rerank/neighbours@tiny": "candidates",
        STORE: "teach",
    }


def test_candidates_of_one_task_can_be_selected_alone(assets: Path) -> None:
    found = graph(assets, task=TWO)
    assert {name.partition("@")[2] for name in meant(found, "candidates@other")} == {"other"}


def test_a_sample_of_the_bank_bounds_the_planned_rows_and_no_sample_leaves_the_keys(assets: Path) -> None:
    table: dict[str, object] = {"files": [str(assets / "pairs.parquet")], "text": "one"}
    nodes, sampled = composed(assets, bank=table), composed(assets, bank={**table, "rows": 20})
    assert nodes["bank"].rows == Quantity.at_most(50)
    assert sampled["bank"].rows == sampled["embed"].rows == sampled["index"].rows == Quantity.at_most(20)
    assert composed(assets, bank={**table, "rows": 500})["bank"].rows == Quantity.at_most(50)
    assert composed(assets, bank={"rows": 20})["bank"].rows == Quantity.at_most(20), "a text file's rows are unknown"
    assert {*BESIDE, *student()} <= changed(nodes, sampled)
    assert not changed(nodes, composed(assets, bank={**table, "rows": None}))


def test_a_bank_that_is_known_to_have_fewer_texts_than_candidates_are_wanted_is_warned_of(assets: Path) -> None:
    table: dict[str, object] = {"files": [str(assets / "pairs.parquet")], "text": "one", "encoder": "tfidf"}
    assert graph(assets, taking(50), bank=table).warnings == ()
    (line,) = graph(assets, taking(51), bank=table).warnings
    assert line == (
        "task tiny, candidates.neighbours: 51 candidates are wanted for each row, but the bank has at most 50 texts, "
        "so that no row has more than 50; enlarge the bank, or set k to 50"
    )
    (line,) = graph(assets, taking(8), bank={**table, "rows": 1}).warnings
    assert "8 candidates are wanted for each row, but the bank has at most 1 texts" in line
    drawn = graph(assets, DRAWN, bank={**table, "rows": 5}, candidates={"drawn": "transfer"}).warnings
    assert "candidates.drawn: 8 candidates are wanted" in drawn[0]


def test_a_bank_of_files_without_rows_is_refused(assets: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), assets / "empty.parquet")
    assert refusal(assets, bank={"files": [str(assets / "empty.parquet")]}) == (
        f"bank.files: no rows in {assets / 'empty.parquet'}; give files that hold texts"
    )
