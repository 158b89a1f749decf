"""The ways in which an image becomes a block device on this node."""
