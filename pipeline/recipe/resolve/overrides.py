"""Merging the overrides of one task into a recipe's tree, and mapping a place in the merged tree back to the file."""

from collections.abc import Mapping, Sequence

from pipeline.recipe.errors import Place
from pipeline.recipe.yaml import Tree, child, merged


def merged_for(tree: Mapping[str, Tree], changes: Mapping[str, Tree]) -> dict[str, Tree]:
    """``changes`` merged over ``tree``. A block at ``student`` changes every student; a name at ``method`` may be the
    label of one of the recipe's methods."""
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
    """The ``own`` methods of a task, where labels of the recipe's methods are replaced by those methods."""
    known = {_label(method): method for method in (usual if isinstance(usual, list) else [usual])}
    entries = own if isinstance(own, list) else [own]
    return [known.get(entry, entry) if isinstance(entry, str) else entry for entry in entries]


def _label(method: Tree) -> str:
    if isinstance(method, dict):
        return str(method.get("label") or method.get("use"))
    return str(method)


def in_file(place: Sequence[str | int], tree: Mapping[str, Tree], task: str) -> Place:
    """A place in the tree merged for ``task`` -> the place in the file: under ``overrides`` if the value comes from
    there."""
    overrides = tree.get("overrides")
    changes = overrides.get(task) if isinstance(overrides, dict) else None
    if isinstance(changes, dict) and place and place[0] in changes:
        there, depth_there = _follow(place, changes)
        replaced = place[0] == "method" or not isinstance(changes[str(place[0])], dict)
        if replaced or depth_there == len(there) or depth_there > _follow(place, tree)[1]:
            return ("overrides", task, *there)
    return _follow(place, tree)[0]


def _follow(place: Sequence[str | int], tree: Tree | Mapping[str, Tree]) -> tuple[Place, int]:
    """``place`` as the tree has it, and how many parts of it are there. Numbers are left out where the tree has a
    single value in place of a list, and the place ends at a name that stands for a whole block."""
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
