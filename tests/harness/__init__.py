"""Brings up real components: Kubernetes' own programs, each cluster in namespaces of its own.

Who stands on whom: `tools` finds or builds the programs, `sandbox` gives them a place that leaves nothing behind,
`control_plane` and `node` start them there, `images` packs what the Pods run. `tests/cluster/conftest.py` and
`tests/node/conftest.py` hand them to tests; `tests/demo` plays a story on them.
"""
