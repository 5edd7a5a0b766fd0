"""``stillhouse curves``: links by name to the curves of a recipe's trainings."""

from pathlib import Path

from pipeline.cli.request import Request, composed, terminal
from pipeline.integrations.tensorboard_links import link_curves


def curves_of_recipe(request: Request, out: Path) -> int:
    """Link, say how to look; the exit code."""
    asked = composed(request)
    names = link_curves(asked.graph, asked.storage, out)
    console = terminal()
    for name in names:
        console.print(name)
    console.print(f"tensorboard --logdir {out}" if names else f"{asked.recipe.name}: nothing is drawn yet")
    return 0
