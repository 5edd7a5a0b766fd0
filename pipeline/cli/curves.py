"""``stillhouse curves``: links with readable names to the TensorBoard curves of a recipe's trainings."""

from pathlib import Path

from pipeline.cli.request import Request, resolve, terminal
from pipeline.integrations.tensorboard_links import link_curves


def curves_of_recipe(request: Request, out: Path) -> int:
    """Make the links in ``out``, print their names and the command that shows them. Returns the exit code."""
    resolved = resolve(request)
    names = link_curves(resolved.graph, resolved.storage, out)
    console = terminal()
    for name in names:
        console.print(name)
    console.print(f"tensorboard --logdir {out}" if names else f"{resolved.recipe.name}: no training has curves yet")
    return 0
