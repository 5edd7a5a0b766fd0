"""docs/recipe.md and docs/recipe.schema.json, made from the recipe's models. ``python -m docs.generate.recipe``.

A test holds that the committed files are what this makes.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from docs.generate.recipe_prose import END, EXAMPLE, START
from docs.generate.wrapping import wrapped
from pipeline.methods import EMBEDDING_METHODS, METHODS
from pipeline.recipe.as_yaml import axes_yaml, inline_yaml
from pipeline.recipe.schema import candidates as augmenting
from pipeline.recipe.schema import file as grammar
from pipeline.recipe.schema import images, learners, limits, optimizers, pretraining, resources, search, starts, tasks
from pipeline.recipe.schema.scalars import Block, kinds
from stages.specs.base import Frozen
from stages.specs.method import Method
from stages.specs.tasks import BUILT_IN, HUB, Task

RECIPES = Path(__file__).parents[2] / "recipes"

SECTIONS: Mapping[str, type[Block]] = {
    "": grammar.RecipeFile,
    "data": grammar.Data,
    "data.views": images.ViewsBlock,
    "data.generated": grammar.GeneratedBlock,
    "task": tasks.TaskBlock,
    "task.hub": tasks.HubTask,
    "teacher": grammar.TeacherSettings,
    "teacher.finetune": learners.FinetuneBlock,
    "store": grammar.StoreSettings,
    "student": learners.Student,
    "student.cut": starts.LayerCut,
    "student.config": starts.FreshConfig,
    "student.bilstm": starts.BilstmBlock,
    "student.network": images.NetworkBlock,
    "method": learners.MethodBlock,
    "method.embedding": pretraining.EmbeddingBlock,
    "method.train": learners.OptimisationBlock,
    "bank": augmenting.Bank,
    "bank.hub": augmenting.HubSplit,
    "bank.generated": augmenting.GeneratedBankBlock,
    "bank.index": augmenting.IndexBlock,
    "candidates.NAME": augmenting.CandidateMaker,
    "models.NAME": learners.ModelBlock,
    "models.NAME.method": learners.AxesBlock,
    "models.NAME.train": learners.SeededBlock,
    "models.NAME.pretrain": pretraining.PretrainBlock,
    "models.NAME.pretrain.distillation": pretraining.DistillationBlock,
    "train": learners.TrainBlock,
    "train.optimizer": optimizers.OptimizerBlock,
    "train.schedule": optimizers.ScheduleBlock,
    "overrides.TASK": grammar.OverrideBlock,
    "resources": resources.ResourcesBlock,
    "resources.STAGE": resources.ResourceBlock,
    "limits": limits.Limits,
    "search": search.SearchBlock,
    "tracking": limits.Tracking,
}
"""Where each block stands in a recipe; the order of the page."""


def schema() -> str:
    """The JSON schema of a recipe, for editors."""
    whole = grammar.RecipeFile.model_json_schema()
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "title": "Stillhouse recipe"}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def page() -> str:
    """The page for people."""
    parts = [START, f"```yaml\n{EXAMPLE}```\n"]
    for where, block in SECTIONS.items():
        parts.append(_section(where, block))
        if where == "task":
            parts.append(_tasks())
        if where == "method":
            parts.extend((_methods(), _axes()))
    return "\n".join((*parts, END, _recipes()))


def _section(where: str, block: type[Block]) -> str:
    title = f"## `{where}`" if where else "## The recipe"
    about = wrapped(" ".join((block.__doc__ or "").split()))
    properties = _properties(block)
    own = [name for name in block.model_fields if name not in _described_under_train(block)]
    rows = [_line(f"`{name}`", *_row(block, name, properties[name])) for name in own]
    table = (_line("key", "type", "default", "meaning", "example"), _line(*5 * ["---"]), *rows, "") if rows else ()
    return "\n".join((title, "", about, "", *table))


def _described_under_train(block: type[Block]) -> Collection[str]:
    """The keys that the block shares with ``train``, where they are described: those that it does not give another
    default."""
    if not issubclass(block, learners.OptimisationBlock) or block is learners.TrainBlock:
        return ()
    shared, own = learners.OptimisationBlock.model_fields, block.model_fields
    return [name for name in shared if own[name].description == shared[name].description]


def _line(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _properties(block: type[Block]) -> Mapping[str, Any]:
    """The schema of each key, without references."""
    whole = block.model_json_schema()
    own = whole["$defs"][block.__name__] if "$ref" in whole else whole
    own = own["anyOf"][1] if "anyOf" in own else own
    resolved: Mapping[str, Any] = _resolved(own, whole.get("$defs", {}))["properties"]
    return resolved


def _resolved(part: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(part, dict):
        target = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else {}
        return {name: _resolved(value, definitions) for name, value in {**target, **part}.items() if name != "$ref"}
    if isinstance(part, list):
        return [_resolved(value, definitions) for value in part]
    return part


def _row(block: type[Block], name: str, about: Mapping[str, Any]) -> Iterator[str]:
    field = block.model_fields[name]
    yield _type(about)
    if field.default_factory is not None:
        yield "`{}`" if isinstance(field.default_factory, type) else "-"
    else:
        yield "**required**" if field.default is PydanticUndefined else _default(field.default)
    yield (field.description or "").replace("|", "\\|")
    yield f"`{name}: {inline_yaml((field.examples or [None])[0])}`"


def _default(value: object) -> str:
    return "-" if value in (None, "") else f"`{inline_yaml(value)}`"


def _type(about: Mapping[str, Any]) -> str:
    """What a key takes, in words, from its schema."""
    if "anyOf" in about:
        return _any([one for one in about["anyOf"] if one.get("type") != "null"])
    if "enum" in about:
        if about["enum"] == learners.USABLE:
            return "a [method](#methods)'s name"
        return " or ".join(f"`{inline_yaml(one)}`" for one in about["enum"])
    match about.get("type"):
        case "array":
            return f"list of {_type(about['items'])}" if "items" in about else "list"
        case "object":
            named = about.get("additionalProperties") or next(iter(about.get("patternProperties", {}).values()), None)
            return (
                f"block: name -> {_type(named)}" if isinstance(named, dict) and "properties" not in about else "block"
            )
        case "integer":
            return f"whole number{_limits(about)}"
        case "number":
            return f"number{_limits(about)}"
        case "boolean":
            return "`true` or `false`"
        case "string":
            return f"`{about['const']}`" if "const" in about else "text"
        case _:
            return "any"


def _any(members: Sequence[Mapping[str, Any]]) -> str:
    """Any of these. A list of just the others reads `list of these`."""
    single = ", or ".join(dict.fromkeys(_type(one) for one in members if one.get("type") != "array"))
    lists = [_type(one) for one in members if one.get("type") == "array"]
    return ", or ".join(
        filter(None, (single, *("list of these" if one == f"list of {single}" else one for one in lists)))
    )


def _limits(about: Mapping[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return " and".join(f" {sign} {about[name]:.10g}" for name, sign in signs.items() if name in about)


def _tasks() -> str:
    rows = [_line(*_task(task)) for task in BUILT_IN.values()]
    head = _line("name", "columns", "labels, from 0", "metrics", "on the hub")
    return "\n".join(("### Built-in tasks", "", head, _line(*5 * ["---"]), *rows, ""))


def _task(task: Task) -> tuple[str, ...]:
    labels = "a number" if task.labels is None else ", ".join(task.labels)
    hub = HUB[task.name].repository if task.name in HUB else "-"
    return f"`{task.name}`", ", ".join(task.text), labels, task.metric_names, hub


def _methods() -> str:
    about = "[methods.md](methods.md) has the formula, scale, sources and deviations of each method."
    rows = [
        _line(_linked(own.name), own.title, own.needs, own.teacher_summary, _axes_of(own.method)) for own in METHODS
    ]
    rows += [_line(_linked(own.name), own.title, "sentence embeddings", "`teacher`", "-") for own in EMBEDDING_METHODS]
    head = _line("name", "title", "outputs it needs of the teacher", "teachers", "its axes")
    return "\n".join(("### Methods", "", about, "", head, _line(*5 * ["---"]), *rows, ""))


def _linked(name: str) -> str:
    return f"[`{name}`](methods.md#{name})"


def _axes_of(method: Method) -> str:
    return " ".join(f"`{axis}`" for axis in axes_yaml(method))


def _recipes() -> str:
    rows = [_line(f"[{path.name}](../recipes/{path.name})", purpose(path)) for path in sorted(RECIPES.glob("*.yaml"))]
    head = _line("file", "purpose")
    return "\n".join(("## Ready-made recipes", "", head, _line(*2 * ["---"]), *rows, ""))


def purpose(path: Path) -> str:
    """The first sentence of the comment that a recipe begins with."""
    comment = takewhile(lambda line: line.startswith("# "), path.read_text("utf-8").split("\n"))
    words = " ".join(line.removeprefix("# ") for line in comment)
    return re.split(r"(?<=\w[\w)])\. (?=[A-Z`])", words, maxsplit=1)[0].rstrip(".") + "."


def _axes() -> str:
    lines = [
        "### Axes",
        "",
        "A block on an axis changes the settings of the method in `use`. A block of another `kind` replaces them; a",
        "plain text is the name of a kind. Axes combine freely; combinations that make no sense are refused.",
        "",
        _line("axis", "kind", "keys", "meaning"),
        _line(*4 * ["---"]),
    ]
    for axis in Method.model_fields:
        lines.extend(
            _line(f"`{axis}`", f"`{kind}`", _keys(model), _about(model)) for kind, model in kinds(axis).items()
        )
    return "\n".join((*lines, ""))


def _about(model: type[Frozen]) -> str:
    return " ".join((model.__doc__ or "").split())


def _keys(model: type[Frozen]) -> str:
    properties = model.model_json_schema()["properties"]
    found = [
        f"`{name}`: {_type(about)}, default {_default(about.get('default'))}"
        for name, about in properties.items()
        if name != "kind"
    ]
    return "; ".join(found) or "-"


def write(folder: Path) -> None:
    (folder / "recipe.md").write_text(page(), "utf-8")
    (folder / "recipe.schema.json").write_text(schema(), "utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent.parent)
