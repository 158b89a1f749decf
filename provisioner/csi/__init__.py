"""The driver's side of CSI: the services that the kubelet, our watcher or the stock sidecars call over a unix socket.

    server        listens, and puts the services behind the interceptor
    interceptors  each call's log line, metrics and, where it fails, status: `status` maps every error
    identity, controller, node   the services; each RPC reads its request, calls the service below, builds the reply
    requests      messages into values; refuses what breaks the specification with the rules of `validate`
    replies       values into messages
    registration  tells the kubelet where the driver listens

Below stand `volumes.VolumeService` and `node.service.NodeService`; nothing here touches storage.
"""
