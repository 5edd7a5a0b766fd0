"""The training of each trial as a node of the graph, with all that it needs."""

from collections.abc import Set
from dataclasses import dataclass, replace

from pipeline.errors import RequestError
from pipeline.graph.context import GraphContext
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.hub import Pins
from pipeline.graph.nodes import Edge, Graph, Node
from pipeline.graph.starting_points import StartingPoints
from pipeline.graph.students import student_nodes
from pipeline.recipe import ValueList
from pipeline.recipe.checks import schedule_warnings
from pipeline.search.trial_recipe import SearchedRecipe
from pipeline.search.values import Values, text_of


@dataclass(frozen=True)
class TrialNodes:
    """Makes the trainings of trials. ``context`` has what all of them share: the files and models that were read.
    ``shared`` are the keys of the recipe's own graph, whose nodes keep their names."""

    searched: SearchedRecipe
    context: GraphContext
    shared: Set[str]

    @staticmethod
    def of(searched: SearchedRecipe, graph: Graph, digests: Digests, pins: Pins, reads_data: bool) -> "TrialNodes":
        """``graph`` is that of the recipe; the others are as for ``build_graph``."""
        return TrialNodes(searched, GraphContext(digests, pins, {}, reads_data), {node.key for node in graph.nodes})

    def node(self, values: Values) -> Node:
        """The training of a trial with these values, without a name of its own. Raises RequestError."""
        recipe = self.searched.recipe(values)
        task = self.searched.task(recipe)
        # Nodes of different trials may have the same name; `named` distinguishes them.
        own = replace(
            self.context, tasks={one.task.name: one for one in recipe.tasks}, nodes={}, masked_models={}, warnings=[]
        )
        try:
            builder = student_nodes(StartingPoints(own, task))
            return builder.trial(self.searched.use(recipe), self.searched.student(recipe), self.searched.search.seed)
        except RequestError as error:
            raise RequestError(f"search.vary: with {text_of(values)}: {error}") from error

    def warnings(self, values: Values) -> list[str]:
        """What is allowed, but probably unintended, with these values: a line each."""
        recipe = self.searched.recipe(values)
        start = f"method {self.searched.search.method}: "
        return [line for line in schedule_warnings(self.searched.task(recipe)) if line.startswith(start)]

    def named(self, node: Node, number: int) -> Node:
        """A trial's training under the name of its number, and so all that it needs and no other node of the recipe
        does."""
        done: dict[str, Node] = {}

        def renamed(one: Node) -> Node:
            if one.key in self.shared:
                return one
            if one.key not in done:
                head, _, task = one.name.partition("@")
                inputs = {
                    name: Edge(renamed(given.source), given.part) if isinstance(given, Edge) else given
                    for name, given in one.inputs.items()
                }
                gate = None if one.gate is None else replace(one.gate, evaluation=renamed(one.gate.evaluation))
                mark = f"-{number}" if one.key == node.key else f"-trial-{number}"
                done[one.key] = replace(one, name=f"{head}{mark}@{task}", inputs=inputs, gate=gate)
            return done[one.key]

        return renamed(node)


def check_values(nodes: TrialNodes) -> None:
    """Try each value of each list and both ends of each range, beside the first values of the other paths. Raises
    RequestError for the first that the recipe does not take."""
    vary = nodes.searched.search.vary
    ends = {
        path: values.values if isinstance(values, ValueList) else (values.low, values.high)
        for path, values in vary.items()
    }
    first = {path: values[0] for path, values in ends.items()}
    nodes.node(first)
    for path, values in ends.items():
        for value in values[1:]:
            nodes.node({**first, path: value})
