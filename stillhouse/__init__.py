"""Stillhouse for notebooks and scripts: what the commands do, as functions that return data frames.

    import stillhouse

    recipe = stillhouse.load_recipe("recipes/quickstart.yaml", {"train.epochs": 2})
    stillhouse.plan(recipe)                              # what would be reused or built, and why
    stillhouse.run(recipe)                               # builds what is missing; the scores
    stillhouse.compare(recipe, "no-kd")                  # methods against one of them, with intervals
    student = stillhouse.load_student("vanilla-kd", recipe)
    stillhouse.predict(student, ["A film that I would gladly see again."])

A wrong request raises ``RequestError``, a ValueError with a message of one line. Nothing is printed where the standard
error is no terminal. Importing this package loads neither torch nor Ray nor pandas; the functions that need them do.
docs/notebook.md has an example that runs.
"""

from pipeline.errors import RequestError
from pipeline.recipe import Recipe
from stillhouse.finished import Export, ExportFailed, LoadedStudent, export, latency, load_model, load_student, predict
from stillhouse.recipes import RunFailed, compare, history, load_recipe, plan, results, run

__all__ = [
    "Export",
    "ExportFailed",
    "LoadedStudent",
    "Recipe",
    "RequestError",
    "RunFailed",
    "compare",
    "export",
    "history",
    "latency",
    "load_model",
    "load_recipe",
    "load_student",
    "plan",
    "predict",
    "results",
    "run",
]
