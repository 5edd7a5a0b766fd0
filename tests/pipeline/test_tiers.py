from pipeline.tiers import SHARD_ROWS, Columns, in_tier, store_bytes
from stages import teach
from stages.specs import TeachSpec

COLUMNS = Columns(layers=3, width=8, outputs=2)


def test_scales_are_counted_for_shards_of_the_size_that_teach_writes() -> None:
    assert SHARD_ROWS == teach.SHARD_ROWS
    spec, columns = in_tier(TeachSpec(), COLUMNS, "store.precision: int8")
    one, two = (store_bytes(spec, columns, rows) for rows in (SHARD_ROWS, SHARD_ROWS + 1))
    assert one == SHARD_ROWS * (16 + 8 + 24) + 24 * 4
    assert two - one == 16 + 8 + 24 + 24 * 4


def test_without_layers_a_store_holds_keys_and_logits_in_any_precision() -> None:
    for precision in ("float16", "float32"):
        spec, columns = in_tier(TeachSpec(precision=precision), COLUMNS, "store.layers: []")
        assert store_bytes(spec, columns, 10) == 10 * (16 + 8)
