"""Stages and publishes an image in a process of its own, which ends itself with SIGKILL at a given step.

python -m tests.contract.rbd_node_worker CLUSTERS STATE KUBELET IMAGE STEP
"""

import os
import signal
import sys
from pathlib import Path

from provisioner import model
from provisioner.backends.rbd import context
from provisioner.node import device_volumes, requests
from tests.contract import rbd_node


def main(clusters: str, state: str, kubelet: str, image: str, step: str) -> None:
    """Work until the step is reached."""

    def kill(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    volumes = device_volumes.DeviceVolumes(rbd_node.build(Path(clusters), Path(state)), steps=kill)
    capability = model.Capability(access_mode=rbd_node.RWO, fs_type="ext4")
    staging = Path(kubelet, f"{image}-staged")
    volumes.stage(
        requests.StageRequest(
            volume_id=model.VolumeId(image),
            staging=staging,
            capability=capability,
            context=context.Context(cluster="real", pool="kube", image=image).encode(),
            publish_context={},
        )
    )
    volumes.unstage(model.VolumeId(image), staging)


if __name__ == "__main__":
    main(*sys.argv[1:])
