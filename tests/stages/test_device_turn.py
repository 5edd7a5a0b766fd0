"""What the threads of one process must do one at a time, looked up in the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

STAGES = Path(__file__).parents[2] / "stages"
NO_MODEL = ("AutoTokenizer", "AutoConfig")
"""Classes whose ``from_pretrained`` makes no model."""


def unlocked(tree: ast.AST, names: tuple[str, ...], locked: bool = False) -> Iterator[ast.Call]:
    """The calls of functions with these names that are not inside a ``with`` block that holds the turn."""
    if isinstance(tree, ast.With):
        locked = locked or any(ast.unparse(item.context_expr) == "TURN" for item in tree.items)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Attribute) and tree.func.attr in names and not locked:
        yield tree
    for child in ast.iter_child_nodes(tree):
        yield from unlocked(child, names, locked)


def calls(*names: str) -> list[str]:
    """``file: call`` of each such call in the stages."""
    found = [
        (path.relative_to(STAGES).as_posix(), ast.unparse(call.func))
        for path in sorted(STAGES.rglob("*.py"))
        for call in unlocked(ast.parse(path.read_text("utf-8")), names)
    ]
    return [f"{path}: {call}" for path, call in found if call.partition(".")[0] not in NO_MODEL]


def test_models_are_loaded_with_the_turn_of_the_process() -> None:
    assert calls("from_pretrained") == []


def test_the_default_generator_is_seeded_with_the_turn_of_the_process() -> None:
    own = ("torch.Generator(device).manual_seed", "torch.Generator().manual_seed", "generator.manual_seed")
    seeds = [line for line in calls("manual_seed") if not line.endswith(own)]
    assert seeds == ["timing/models.py: torch.manual_seed"], "which runs before any stage, in a process of its own"


def test_the_check_knows_what_holds_the_turn() -> None:
    inside = "with TURN:\n    torch.manual_seed(1)\ntorch.manual_seed(2)"
    assert [ast.unparse(call) for call in unlocked(ast.parse(inside), ("manual_seed",))] == ["torch.manual_seed(2)"]
