from pipeline.graph.artifact_sizes import in_tier, store_bytes
from stages.outputs.sizes import SHARD_ROWS, Extent
from stages.specs.teacher import TeachSpec

EXTENT = Extent(layers=3, width=8, outputs=2)


def test_scales_are_counted_for_shards_of_the_size_that_teach_writes() -> None:
    spec, extent = in_tier(TeachSpec(), EXTENT, "store.precision: int8")
    one, two = (store_bytes(spec, extent, rows) for rows in (SHARD_ROWS, SHARD_ROWS + 1))
    assert one == SHARD_ROWS * (16 + 8 + 24) + 24 * 8
    assert two - one == 16 + 8 + 24 + 24 * 8


def test_without_layers_a_store_holds_keys_and_logits_in_any_precision() -> None:
    for precision in ("float16", "float32"):
        spec, extent = in_tier(TeachSpec(precision=precision), EXTENT, "store.layers: []")
        assert store_bytes(spec, extent, 10) == 10 * (16 + 8)


def test_the_size_grows_with_the_length_for_tokens_and_with_its_square_for_attention() -> None:
    extent = Extent(layers=3, width=8, outputs=2, heads=4, length=10)
    assert store_bytes(TeachSpec(part="tokens"), extent, 5) == 5 * (20 + 3 * 10 * 8 * 2)
    assert store_bytes(TeachSpec(part="scores"), extent, 5) == 5 * (20 + 3 * 4 * 10 * 10 * 2)


def test_a_tier_that_does_not_apply_leaves_the_spec_unchanged() -> None:
    tokens, scores = TeachSpec(part="tokens"), TeachSpec(part="scores")
    assert in_tier(tokens, EXTENT, "store.layers: []") == (tokens, EXTENT)
    assert in_tier(scores, EXTENT, "store.precision: int8") == (scores, EXTENT)
    assert in_tier(tokens, EXTENT, "store.precision: int8")[0].precision == "int8"
