"""Images, snapshots, trash and locks of a Ceph cluster, as the rest of the backend sees them.

`api` is the seam: plain values and two protocols, with `errors` for what goes wrong. `librbd` keeps it on a real
cluster, by Debian's binding; `connections` hands out one cached connection per cluster, user and key.
"""
