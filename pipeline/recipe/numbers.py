"""Numbers of a recipe that can only be mistakes: they would end in overflows, or in runs of centuries."""

from pipeline.recipe.errors import PlacedError
from pipeline.recipe.yaml import Tree

MOST = 1_000_000_000
"""The largest number, but for seeds and bytes."""
LEAST = 1e-12
"""The smallest positive number."""
UNBOUNDED = ("seed", "bytes", "memory", "custom", "label", "name", "revision")
"""Parts of the names of keys whose numbers may be larger: their types bound them, or they are texts."""


def check_numbers(tree: Tree, place: tuple[str | int, ...] = ()) -> None:
    """PlacedError for a number that is too large, or too close to 0."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if not any(part in str(name) for part in UNBOUNDED):
                check_numbers(value, (*place, name))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            check_numbers(value, (*place, number))
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        if abs(tree) > MOST:
            raise PlacedError(place, tree, f"is too large; give at most {MOST:,}")
        if 0 < abs(tree) < LEAST:
            raise PlacedError(place, tree, f"is too close to 0; give 0, or at least {LEAST:g}")
