"""Find the model that a command is given: a directory, an artifact, or a model of a recipe by its method."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.evaluations import teacher_store
from pipeline.artifacts.locate_inputs import input_path
from pipeline.artifacts.record import RECORD, Record, fetch_artifact, find_for, missing, sound_record_of
from pipeline.artifacts.search import locate
from pipeline.cli.last_sets import resolve_built
from pipeline.cli.request import Request, ResolvedRequest, storage_errors
from pipeline.errors import RequestError, nearest, refused
from pipeline.graph.nodes import MODEL, Edge, Graph, Node, artifact_key, source_key
from pipeline.storage import Storage, open_storage
from stages.deployment.description import ModelDescription, exported_from, is_model, is_onnx, read_description

RECIPE_MODEL = re.compile(r"(?P<recipe>.+?\.ya?ml):(?P<model>.+)", re.DOTALL)
TEACHER = "teacher"
"""The name of the model that taught another, in tables."""
NAMED = 6
"""How many models of a recipe are listed in a message."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The artifact that a model is in: its record, and its storage."""

    record: Record
    storage: Storage


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model's directory on this machine. ``name`` stands for it in tables and in names of folders; ``stored`` is None
    for a directory outside any storage. ``identity`` is that of the model in keys, None where it is not known."""

    name: str
    directory: Path
    stored: StoredModel | None = None
    identity: str | None = None

    def description(self) -> ModelDescription:
        """Its task and the length of its rows. Raises RequestError for a damaged directory."""
        with refused(f"MODEL: {self.directory}"):
            return read_description(self.directory, self.corpus())

    def corpus(self) -> Path | None:
        """The corpus on which it was trained; None where there is none any more, or none is known."""
        return None if self.stored is None else _input(self.stored, "corpus")

    def teacher(self) -> "FoundModel | None":
        """The first model that taught it, from the record of the store that its training read; None for a model that
        was not taught, or whose store is gone."""
        if self.stored is None:
            return None
        store = teacher_store(self.stored.record, self.stored.storage)
        if store is None:
            return None
        directory = _input(StoredModel(store, self.stored.storage), "model")
        if directory is None or not is_model(directory):
            return None
        return FoundModel(TEACHER, directory, None, store.inputs["model"])

    def taught_by(self) -> str | None:
        """The identity of the first model that taught it; None where there is none, or it is not known."""
        store = None if self.stored is None else teacher_store(self.stored.record, self.stored.storage)
        return None if store is None else store.inputs["model"]


def original_of(model: FoundModel, storage: str | None) -> FoundModel | None:
    """The model of which an ONNX model was exported; None for a model of another kind, and where ``storage`` (by
    default ``runs``) does not have it. Raises RequestError if the storage does not answer."""
    identity = exported_from(model.directory) if is_onnx(model.directory) else None
    if identity is None:
        return None
    there = open_storage(storage or "runs")
    with storage_errors(there):
        record = sound_record_of(artifact_key(identity), there)
        if record is None or missing(there, record):
            return None
        directory = fetch_artifact(there, record) / (identity.partition("/")[2] or MODEL)
    return FoundModel(record.name, directory, StoredModel(record, there), identity) if is_model(directory) else None


def find_model(target: str, storage: str | None, sets: Sequence[str]) -> FoundModel:
    """The model that ``target`` names. Raises RequestError.

    It is a path (the directory of a model, or an artifact that holds one), ``RECIPE:method/student/seed@task``, the
    name of a training such as ``distil/vanilla-kd/six/0@sst2``, the name of a model below ``models/``, or the first
    digits of a key. ``sets`` are the ``--set`` of the recipe; ``storage`` is where artifacts are, None for that of the
    recipe, or ``runs``.
    """
    path = Path(target)
    if path.exists():
        return _at_path(path)
    reference = RECIPE_MODEL.fullmatch(target)
    if reference is not None:
        return _of_recipe(Path(reference["recipe"]), reference["model"], storage, tuple(sets))
    there = open_storage(storage or "runs")
    with storage_errors(there):
        return _of_record(*locate(target, there))


def _at_path(path: Path) -> FoundModel:
    """The model in a folder, or in the artifact that a path is in."""
    folder = path if path.is_dir() else path.parent
    inside = folder if is_model(folder) else folder / MODEL
    stored = _stored_at(folder.absolute())
    if is_model(inside):
        own = inside.absolute()
        if stored is None:
            return FoundModel(_folder_name(own), own)
        return FoundModel(stored.record.name, own, stored, _identity(stored.record, own))
    if stored is None:
        raise RequestError(f"MODEL: {path} has no config.json, so it holds no model; give the directory of one")
    return _of_record(stored.record, stored.storage)


def _stored_at(folder: Path) -> StoredModel | None:
    """The artifact that a folder is in or holds; None for a folder outside any storage."""
    real = folder.resolve()  # of the name of a model, which is a link to its folder
    for level in (folder, *folder.parents, real, *real.parents):
        if (level / RECORD).is_file():
            return StoredModel(*locate(str(level), open_storage(str(level.parent.parent))))
    return None


def _folder_name(directory: Path) -> str:
    return directory.parent.name if directory.name == MODEL else directory.name


def _of_record(record: Record, storage: Storage) -> FoundModel:
    """The final model of an artifact. Raises RequestError for an artifact without one."""
    if not any(file.path == f"{MODEL}/config.json" for file in record.files):
        raise RequestError(
            f"MODEL: {record.name} is an artifact of the stage {record.stage}, which makes no model; give a training"
        )
    lost = missing(storage, record)
    if lost:
        raise RequestError(f"MODEL: {record.name}: its file {lost} is missing or cut short; run its recipe again")
    directory = fetch_artifact(storage, record) / MODEL
    return FoundModel(record.name, directory, StoredModel(record, storage), record.key)


def _identity(record: Record, directory: Path) -> str | None:
    """The identity of the model in a folder of an artifact; None for a folder that is none of its attempt."""
    parts = directory.resolve().parts
    if record.key not in parts:
        return None
    part = "/".join(parts[parts.index(record.key) + 2 :])
    return record.key if part == MODEL else f"{record.key}/{part}"


def _input(stored: StoredModel, name: str) -> Path | None:
    """An input of an artifact on this machine; None where it is gone or not known."""
    try:
        path = input_path(stored.record, name, stored.storage)
    except RequestError:
        return None
    return path if path.is_dir() else None


# --- models of a recipe ---------------------------------------------------------------------------


def _of_recipe(recipe: Path, model: str, storage: str | None, sets: tuple[str, ...]) -> FoundModel:
    return model_of_recipe(resolve_built(Request(recipe, sets, storage, False, None), False), model, str(recipe))


def model_of_recipe(resolved: ResolvedRequest, model: str, recipe: str) -> FoundModel:
    """The model that ``method/student/seed@task`` names in a recipe; ``recipe`` is what messages call the recipe.
    Raises RequestError for one that is not known, or not built."""
    return built_model(resolved, model_node(resolved.graph, model, recipe), recipe)


def built_model(resolved: ResolvedRequest, node: Node, recipe: str) -> FoundModel:
    """The model that ``node``, an evaluation, is of; ``recipe`` is what messages call the recipe. Raises RequestError
    for one that is not built yet, and for an ensemble."""
    name, given = model_name(node), node.inputs.get("model")
    if given is None:
        raise RequestError(f"MODEL: {name} of {recipe} is an ensemble, which has no model of its own; name a member")
    if not isinstance(given, Edge):
        return FoundModel(name, given.path, None, given.identity)
    with storage_errors(resolved.storage):
        record = find_for(resolved.storage, given.source)
        if record is None:
            raise RequestError(f"MODEL: {name} of {recipe} is not built yet; run stillhouse run {recipe}")
        directory = fetch_artifact(resolved.storage, record) / (given.part or MODEL)
    return FoundModel(name, directory, StoredModel(record, resolved.storage), source_key(given))


def model_node(graph: Graph, model: str, recipe: str) -> Node:
    """The evaluation of the model that ``method/student/seed@task`` names in a recipe. Student, seed and task may be
    left out where that leaves one model. Raises RequestError for none and for several."""
    nodes = [node for node in graph.wanted if node.role == "evaluate" and node.subject is not None]
    head, _, task = model.partition("@")
    parts = head.split("/")
    found = [node for node in nodes if task in ("", node.task) and _parts(node)[: len(parts)] == parts]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RequestError(f"MODEL: {recipe} has no model {model}; {nearest(model, map(model_name, nodes))}")
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    listed = ", ".join(map(model_name, found[:NAMED]))
    raise RequestError(f"MODEL: {model} stands for {len(found)} models of {recipe}: {listed}{more}; write one of them")


def model_name(node: Node) -> str:
    """``method/student/seed@task`` of the evaluation of a model."""
    return f"{'/'.join(_parts(node))}@{node.task}"


def _parts(node: Node) -> list[str]:
    assert node.subject is not None
    return [node.subject.method, node.subject.student, str(node.subject.seed)]
