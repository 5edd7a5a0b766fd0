"""A recipe's tree with the overrides of one task merged in, and the way back: where in the file a thing stands."""

from collections.abc import Mapping, Sequence

from pipeline.recipe.errors import Place
from pipeline.recipe.yaml import Tree, child, merged


def merged_for(tree: Mapping[str, Tree], changes: Mapping[str, Tree]) -> dict[str, Tree]:
    """``changes`` over ``tree``. Every student takes the changes to students; a method may be named by its label."""
    usual = {key: value for key, value in tree.items() if key != "overrides"}
    own = dict(changes)
    if isinstance(own.get("student"), dict):
        own["student"] = _each_student(usual.get("student"), own["student"])
    if own.get("method") is not None:
        own["method"] = _by_label(usual.get("method"), own["method"])
    whole = merged(usual, own)
    assert isinstance(whole, dict)
    return whole


def _each_student(students: Tree, changes: Tree) -> Tree:
    return (
        [merged(student, changes) for student in students] if isinstance(students, list) else merged(students, changes)
    )


def _by_label(usual: Tree, own: Tree) -> Tree:
    """``own`` methods, with those of the recipe in the place of their labels."""
    known = {_label(method): method for method in (usual if isinstance(usual, list) else [usual])}
    entries = own if isinstance(own, list) else [own]
    return [known.get(entry, entry) if isinstance(entry, str) else entry for entry in entries]


def _label(method: Tree) -> str:
    if isinstance(method, dict):
        return str(method.get("label") or method.get("use"))
    return str(method)


def in_file(place: Sequence[str | int], tree: Mapping[str, Tree], task: str) -> Place:
    """A place in the tree merged for ``task`` -> the place in the file: under ``overrides`` where that says it."""
    overrides = tree.get("overrides")
    changes = overrides.get(task) if isinstance(overrides, dict) else None
    if isinstance(changes, dict) and place and place[0] in changes:
        there, depth_there = _follow(place, changes)
        replaced = place[0] == "method" or not isinstance(changes[str(place[0])], dict)
        if replaced or depth_there == len(there) or depth_there > _follow(place, tree)[1]:
            return ("overrides", task, *there)
    return _follow(place, tree)[0]


def _follow(place: Sequence[str | int], tree: Tree | Mapping[str, Tree]) -> tuple[Place, int]:
    """``place`` without numbers of items where the file has no list, cut at a name that stands for a block.

    Also how many parts of it are in the file.
    """
    found: list[str | int] = []
    depth = 0
    for part in place:
        if isinstance(tree, str):
            break
        if isinstance(part, int) and not isinstance(tree, list):
            continue
        found.append(part)
        tree, here = child(tree, part)
        depth += here
    return tuple(found), depth
