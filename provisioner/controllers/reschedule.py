"""Takes the selected node off a claim, so that another is chosen, or puts one on."""

from provisioner.controllers import names
from provisioner.kube import client as kube_client
from provisioner.kube import objects


async def free(client: kube_client.Client, claim: objects.PersistentVolumeClaim) -> None:
    """Remove the selected node from the claim, if nothing about the claim has changed since it was seen.

    Raises:
        kube_errors.ConflictError: something has; look again.
        kube_errors.KubeError: it could not be done.
    """
    await _write(client, claim, None)


async def select(client: kube_client.Client, claim: objects.PersistentVolumeClaim, node: str) -> None:
    """Select a node for a claim that has none, if nothing about the claim has changed since it was seen.

    Raises:
        kube_errors.ConflictError: something has, perhaps because another node was faster.
        kube_errors.KubeError: it could not be done.
    """
    await _write(client, claim, node)


async def _write(client: kube_client.Client, claim: objects.PersistentVolumeClaim, node: str | None) -> None:
    meta = claim.metadata
    await client.patch(
        objects.CLAIMS,
        meta.name,
        {
            "metadata": {
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
                "annotations": {names.SELECTED_NODE: node},
            }
        },
        namespace=meta.namespace,
    )
