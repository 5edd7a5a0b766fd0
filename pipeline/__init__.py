"""In what order, and whether at all: recipes, graph, plan, artifacts, runner, report, command line."""
