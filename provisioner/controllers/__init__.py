"""The watcher: claims become volumes, are bound, and volumes whose claims are gone are deleted.

`watcher` composes the rest. What is decided without I/O stands apart from what does it:

    decided     claims (whose turn is it), requests + parameters + secrets + topology (what is asked of the driver),
                outcomes (what a failure means), persistent (the object that is written)
    done        provision, bind + pulse, reclaim, assign, vacate: a queue or a loop each; route feeds them

What a process needs of RBAC, by resource (`status` is the subresource):

    resource                 whole cluster                                  per node
    persistentvolumeclaims   get list watch patch, status: patch            get list watch patch
    persistentvolumes        get list watch create patch delete,            get list watch create patch delete,
                             status: patch                                  status: patch
    storageclasses           list watch                                     list watch
    csinodes                 list watch                                     list watch
    nodes                    get list watch (list, watch: topology)         get
    volumeattachments        list watch (a driver that attaches)            list watch (likewise)
    secrets                  get (only those that classes name)             get (likewise)
    events                   get create patch                               get create patch

Without `status: patch` claims are bound, and volumes released, at the kube-controller-manager's own pace.
"""
