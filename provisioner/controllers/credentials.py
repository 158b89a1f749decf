"""Reads the Secrets that a CSI call carries: one `get` for each call, nothing kept, listed or logged."""

from collections.abc import Mapping

from provisioner.controllers import outcomes, secrets
from provisioner.kube import client as kube_client
from provisioner.kube import errors as kube_errors
from provisioner.kube import objects


async def read(client: kube_client.Client, reference: secrets.Reference | None) -> Mapping[str, str]:
    """The entries of the Secret, or none where no Secret is referred to.

    Raises:
        outcomes.NotReadyError: there is no such Secret, or it holds bytes that are no text.
        kube_errors.KubeError: it cannot be read.
    """
    if reference is None:
        return {}
    try:
        secret = await client.get(objects.SECRETS, reference.name, reference.namespace)
        return {key: value.decode() for key, value in secret.data.items()}
    except kube_errors.NotFoundError as error:
        raise outcomes.NotReadyError(
            f"Secret {reference.namespace}/{reference.name}, which the StorageClass names, does not exist",
            remedy="create it, or correct the class",
        ) from error
    except UnicodeDecodeError:
        # Not chained: the error would carry the bytes.
        raise outcomes.NotReadyError(
            f"Secret {reference.namespace}/{reference.name} holds bytes that are not UTF-8, which CSI cannot carry"
        ) from None
