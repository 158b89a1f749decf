"""The annotations, labels, finalizers and class parameters that Kubernetes, its sidecars and this program share."""

STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
MIGRATED_TO = "pv.kubernetes.io/migrated-to"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
DELETION_SECRET_NAME = "volume.kubernetes.io/provisioner-deletion-secret-name"  # noqa: S105  # an annotation's key
DELETION_SECRET_NAMESPACE = "volume.kubernetes.io/provisioner-deletion-secret-namespace"  # noqa: S105  # likewise
VOLUME_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
PROVISIONER_IDENTITY = "storage.kubernetes.io/csiProvisionerIdentity"

PARAMETER_PREFIX = "csi.storage.k8s.io/"

PULSE_LABEL = "csi.provisioner/binding-pulse"
"""On the marker volumes of `provisioner.controllers.pulse`, with the driver's name as its value."""

CREATE_DELETE_VOLUME = "CREATE_DELETE_VOLUME"
PUBLISH_UNPUBLISH_VOLUME = "PUBLISH_UNPUBLISH_VOLUME"
GET_CAPACITY = "GET_CAPACITY"
MODIFY_VOLUME = "MODIFY_VOLUME"
SINGLE_NODE_MULTI_WRITER = "SINGLE_NODE_MULTI_WRITER"
