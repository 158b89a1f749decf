"""The watcher: claims become volumes, are bound, and volumes whose claims are gone are deleted.

`watcher` composes the rest. What is decided without I/O stands apart from what does it:

    decided     claims (whose turn is it), requests + parameters + secrets + topology (what is asked of the driver),
                outcomes (what a failure means), persistent (the object that is written)
    done        provision, bind + pulse, reclaim, assign, vacate: a queue or a loop each; route feeds them

What a process needs of RBAC, by what it watches; in parentheses, what only some drivers and classes need:

    resource                        the whole cluster                         one node
    persistentvolumeclaims          get list watch patch                      get list watch patch
    persistentvolumeclaims/status   patch                                     -
    persistentvolumes               get list watch create patch delete        get list watch create patch delete
    persistentvolumes/status        patch                                     patch
    storageclasses                  list watch                                list watch
    csinodes                        list watch                                list watch
    nodes                           get (list watch: a driver with topology)  get list
    volumeattachments               (list watch: a driver that attaches)      (list watch: likewise)
    secrets                         (get: those that classes name)            (get: likewise)
    events                          get create patch                          get create patch

Without `patch` on a status claims are bound, and volumes released, at the kube-controller-manager's own pace.
"""
