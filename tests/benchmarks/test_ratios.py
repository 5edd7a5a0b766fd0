"""The benchmark of gradients: which methods it measures."""

from benchmarks.ratios import WEIGHTS
from pipeline.methods import METHODS
from stages.specs.layers import NoLayers


def test_the_gradients_of_every_method_that_matches_layers_are_measured() -> None:
    matched = {named.name for named in METHODS if not isinstance(named.method.structure, NoLayers)}
    assert set(WEIGHTS) == matched
