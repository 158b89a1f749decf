"""All of csi-sanity passes on every backend, and only what is not announced is skipped."""

from pathlib import Path

from grpc import aio

from provisioner import csiclient, metrics
from provisioner.generated import csi_pb2, csi_pb2_grpc
from tests.conformance import conftest, sanity

# The reasons for which csi-sanity skips a case, each with the capability whose absence is that reason.
EXPLAINED = {
    "Controller Publish, UnpublishVolume not supported": "controller PUBLISH_UNPUBLISH_VOLUME",
    "ControllerExpandVolume not supported": "controller EXPAND_VOLUME",
    "ControllerModifyVolume not supported": "controller MODIFY_VOLUME",
    "ControllerPublishVolume not supported": "controller PUBLISH_UNPUBLISH_VOLUME",
    "ControllerUnpublishVolume not supported": "controller PUBLISH_UNPUBLISH_VOLUME",
    "CreateSnapshot not supported": "controller CREATE_DELETE_SNAPSHOT",
    "DeleteSnapshot not supported": "controller CREATE_DELETE_SNAPSHOT",
    "GetSnapshot not supported": "controller GET_SNAPSHOT",
    "GroupControllerService not supported": "plugin GROUP_CONTROLLER_SERVICE",
    "ListSnapshots not supported": "controller LIST_SNAPSHOTS",
    "Modify Volume not supported": "controller MODIFY_VOLUME",
    "Modify volume not supported": "controller MODIFY_VOLUME",
    "NodeExpandVolume not supported": "node EXPAND_VOLUME",
    "NodeStageVolume not supported": "node STAGE_UNSTAGE_VOLUME",
    "NodeUnstageVolume not supported": "node STAGE_UNSTAGE_VOLUME",
    "Snapshot not supported": "controller CREATE_DELETE_SNAPSHOT",
    "Volume Cloning not supported": "controller CLONE_VOLUME",
    # How many volumes a node takes is left to Kubernetes: no capability, so none can be announced.
    "testnodevolumeattachlimit not enabled": "node max_volumes_per_node",
}
# csi-sanity itself has switched this case off (csi-test issue 223); tests/unit/csi/test_controller.py has it.
SWITCHED_OFF = (
    "[It] Controller Service [Controller Server] ListVolumes pagination should detect volumes added between pages "
    "and accept tokens when the last volume from a page is deleted"
)
# The last cases of the suite: who passes them has made, published, measured and removed volumes.
LIFECYCLE = ["[It] Node Service should work", "[It] Node Service should be idempotent"]


async def test_csi_sanity_passes_and_skips_only_what_is_not_announced(
    driver: conftest.Driver, csi_sanity: Path, tmp_path: Path
) -> None:
    announced = await _announced(driver)

    report = sanity.run(csi_sanity, driver.suite, driver_pid=driver.pid, socket=driver.socket, scratch=tmp_path)

    assert report.failed == [], f"{report.output}\n--- the driver's log\n{driver.log.read_text()}"
    assert report.exit_status == 0
    assert report.pending == [SWITCHED_OFF]
    assert [name for name in LIFECYCLE if name not in report.passed] == []
    assert sorted(set(report.skipped.values()) - set(EXPLAINED)) == []
    assert {reason for reason in report.skipped.values() if EXPLAINED[reason] in announced} == set()


async def test_csi_sanity_leaves_no_volume_behind(driver: conftest.Driver, csi_sanity: Path, tmp_path: Path) -> None:
    sanity.run(csi_sanity, driver.suite, driver_pid=driver.pid, socket=driver.socket, scratch=tmp_path)
    client = csiclient.GrpcClient(str(driver.socket), measured=metrics.Metrics())

    left = [volume async for volume in client.list_volumes(page=10, timeout=10)]
    await client.close()

    assert left == []


async def _announced(driver: conftest.Driver) -> set[str]:
    """Every capability that the driver announces, with the service that announces it."""
    client = csiclient.GrpcClient(str(driver.socket), measured=metrics.Metrics())
    described = await client.describe(timeout=10)
    await client.close()
    async with aio.insecure_channel(f"unix://{driver.socket}") as channel:
        reply = await csi_pb2_grpc.NodeStub(channel).NodeGetCapabilities(csi_pb2.NodeGetCapabilitiesRequest())
    names = csi_pb2.NodeServiceCapability.RPC.Type
    return {
        *(f"plugin {name}" for name in described.plugin_capabilities),
        *(f"controller {name}" for name in described.controller_capabilities),
        *(f"node {names.Name(item.rpc.type)}" for item in reply.capabilities),
    }
