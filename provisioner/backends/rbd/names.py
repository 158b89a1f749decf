"""The names in a Ceph cluster that both halves of the driver know: the keys of an image's metadata.

Everything that is known of a volume is on its image, readable with `rbd image-meta list`: no database is beside it that
could be lost, and what is in the trash is still known. A new version may add a key, and never changes what one means.
"""

PREFIX = "provisioner."
"""What every key of ours begins with; others are left alone."""

NAME = "provisioner.name"
"""The name that the caller of CreateVolume gave the volume."""

INSTANCE = "provisioner.instance"
"""The Kubernetes cluster whose volume it is: an image of another one is never touched."""

PARAMETERS = "provisioner.parameters"
"""The parameters of the StorageClass, as a JSON object with sorted keys."""

CAPABILITIES = "provisioner.capabilities"
"""What the volume was made for: access modes, types and filesystems, as a JSON list."""

SIZE = "provisioner.size"
"""Bytes, when the driver changed it last; so it is known of an image in the trash, too."""

SOURCE = "provisioner.source"
"""The id of the snapshot (`snapshot:ID`) or volume (`volume:ID`) that the first content is from."""

CREATED = "provisioner.created"
"""When the volume was made (RFC 3339)."""

STATE = "provisioner.state"
"""Absent while a volume is being made, then `READY`."""

READY = "ready"

PVC_NAMESPACE = "provisioner.pvc-namespace"
PVC_NAME = "provisioner.pvc-name"
PV_NAME = "provisioner.pv-name"
"""What the volume is in Kubernetes, where the watcher told."""

DEPTH = "provisioner.depth"
"""How many images lie between the volume and its last ancestor, when it was made."""

ON_DELETE = "provisioner.on-delete"
"""What DeleteVolume does with the image: `trash`, `purge` or `retain`."""

TRASH_RETENTION = "provisioner.trash-retention"
"""How many seconds the image stays in the trash."""

RESTORED_FROM = "provisioner.restored-from"
"""While a volume is restored under another name: the image's name in the trash, which is of its old one."""

DELETED_AT = "provisioner.deleted-at"
"""When DeleteVolume was obeyed (RFC 3339), where the image did not go into the trash: its snapshots need it, or the
class says that it be retained."""

NODE = "provisioner.node"
"""The nodes that the volume is published to, as a JSON object: node name to `"ro"` or `"rw"`."""

FORMATTED = "provisioner.formatted"
"""What the node half knows of the filesystem: the values of `base.Formatted`. A clone has it from its source."""
