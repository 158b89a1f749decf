"""The nodes that may take a claim of a class: those with the driver, where the class's `allowedTopologies` let them.

A process in per-node mode follows no Nodes, so it asks for their labels when a class has such limits, and keeps the
answer for a while. A node that is missing from it takes no turn yet.
"""

import asyncio
import dataclasses

from provisioner.controllers import tools
from provisioner.kube import objects

_KEPT = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    until: float
    nodes: frozenset[str]


class Candidates:
    """Who may take claims, by class."""

    def __init__(self, kit: tools.Tools) -> None:
        self._kit = kit
        self._answers: dict[str, _Answer] = {}
        self._asking = asyncio.Lock()

    async def of(self, storage_class: objects.StorageClass) -> frozenset[str]:
        """The names of the nodes.

        Raises:
            kube_errors.KubeError: their labels cannot be read.
        """
        nodes = frozenset(self._kit.known.driver_nodes())
        return nodes & await self._allowed(storage_class) if storage_class.allowed_topologies else nodes

    async def _allowed(self, storage_class: objects.StorageClass) -> frozenset[str]:
        key = f"{storage_class.metadata.uid}/{storage_class.metadata.resource_version}"
        async with self._asking:
            now = self._kit.clock.time()
            self._answers = {known: answer for known, answer in self._answers.items() if answer.until > now}
            if key not in self._answers:
                found = [await self._labelled(term) for term in storage_class.allowed_topologies]
                self._answers[key] = _Answer(now + _KEPT, frozenset().union(*found))
            return self._answers[key].nodes

    async def _labelled(self, term: objects.TopologySelectorTerm) -> frozenset[str]:
        wanted = ",".join(f"{one.key} in ({','.join(one.values)})" for one in term.match_label_expressions)
        # Labels of a moment ago will do; the API server then answers from memory, and in one page.
        page = await self._kit.client.list(objects.NODES, label_selector=wanted, resource_version="0")
        return frozenset(node.metadata.name for node in page.items)
