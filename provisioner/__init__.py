"""An external dynamic provisioner for Kubernetes: a CSI driver and the watcher that drives it."""
