"""Which change makes which claims be looked at."""

from provisioner.controllers import provision, reclaim, route, vacate, world
from provisioner.kube import cache, objects
from tests.unit.controllers import build, conftest


class _Provisioner(provision.Provisioner):
    """Only notes what it is to look at."""

    def __init__(self) -> None:
        self.looked_at: list[str] = []

    def consider(self, claim: objects.PersistentVolumeClaim) -> None:
        self.looked_at.append(claim.metadata.name)


class _Reclaimer(reclaim.Reclaimer):
    def __init__(self) -> None:
        pass


class _Vacator(vacate.Vacator):
    def __init__(self) -> None:
        pass

    def consider(self, claim: objects.PersistentVolumeClaim) -> None:
        pass


def _node(name: str, version: int) -> objects.CsiNode:
    return objects.CsiNode(
        metadata=objects.ObjectMeta(name=name, resource_version=str(version)),
        spec=objects.CsiNodeSpec(drivers=(objects.CsiNodeDriver(name=build.DRIVER),)),
    )


async def test_at_the_start_each_claim_is_looked_at_once_and_again_when_a_node_joins(
    cluster: conftest.Cluster,
) -> None:
    known = world.World(
        driver=build.DRIVER,
        claims=cache.Cache(cluster.kube, objects.CLAIMS),
        volumes=cache.Cache(cluster.kube, objects.VOLUMES),
        classes=cache.Cache(cluster.kube, objects.CLASSES),
        csi_nodes=cache.Cache(cluster.kube, objects.CSI_NODES),
    )
    known.add_indexes()
    known.claims.observe(build.claim())
    for number in range(1, 4):
        known.csi_nodes.observe(_node(f"node-{number}", number))
    provisioner = _Provisioner()
    route.Router(known, provisioner, _Reclaimer(), _Vacator(), binder=None, assigner=None).connect()
    assert provisioner.looked_at == ["data"]
    known.csi_nodes.observe(_node("node-4", 4))
    assert provisioner.looked_at == ["data", "data"]
