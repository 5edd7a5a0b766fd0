"""``stillhouse curves``: links by name to the curves of a recipe's trainings."""

from pathlib import Path

from pipeline.cli.request import Request, resolve, terminal
from pipeline.integrations.tensorboard_links import link_curves


def curves_of_recipe(request: Request, out: Path) -> int:
    """Link, say how to look; the exit code."""
    resolved = resolve(request)
    names = link_curves(resolved.graph, resolved.storage, out)
    console = terminal()
    for name in names:
        console.print(name)
    console.print(f"tensorboard --logdir {out}" if names else f"{resolved.recipe.name}: nothing is drawn yet")
    return 0
