"""The storage behind the volumes: `base` is the contract, each other package keeps it for one kind of storage."""
