"""The watcher's side of CSI: a client for any driver, ours or a stranger's.

`controllers` call it; it calls the driver behind a unix socket. Neither protobuf nor gRPC crosses it: what goes in and
comes out are the values of `provisioner.model`, and whatever goes wrong is a `CallError` with the code that the
driver answered. What a code means for a claim is the controllers' affair.
"""

from provisioner.csiclient.api import CallError, Client, Code, Driver, NodeInfo
from provisioner.csiclient.client import GrpcClient

__all__ = ["CallError", "Client", "Code", "Driver", "GrpcClient", "NodeInfo"]
