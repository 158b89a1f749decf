"""The Ceph RBD backend: volumes that are images in a pool, through librbd."""
