# The program, on Debian with Debian's own Python: a backend may need bindings that only Debian packages (Ceph's do).
# Stages: base → dependencies (the locked ones, in a virtual environment) ─┐
#              → project (the wheel, laid out by itself) ──────────────────┴→ the image: base + three layers.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM base AS dependencies
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
# The environment itself has no pip. --system-site-packages: so that Debian's bindings are found.
RUN python3 -m venv /build/pip \
 && python3 -m venv --system-site-packages --without-pip /opt/provisioner
COPY requirements.lock /build/
RUN /build/pip/bin/pip --python /opt/provisioner/bin/python install --no-cache-dir --no-deps --require-hashes \
    --requirement /build/requirements.lock

FROM dependencies AS project
COPY requirements-dev.lock /build/
RUN /build/pip/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /build/requirements-dev.lock
COPY pyproject.toml hatch_build.py README.md LICENSE /build/source/
COPY protos /build/source/protos
COPY provisioner /build/source/provisioner
RUN /build/pip/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheel /build/source \
 && /build/pip/bin/pip --python /opt/provisioner/bin/python install --no-deps --no-index --no-warn-script-location \
    --root /build/root /build/wheel/*.whl

FROM base
# For Ceph: the binding; the programs that attach images, qemu-storage-daemon (in qemu-system-common) where the kernel
# has no rbd or nbd; and those that make, check and grow filesystems.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
    python3-rbd python3-rados ceph-common rbd-nbd kmod qemu-system-common qemu-utils qemu-block-extra e2fsprogs xfsprogs \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="provisioner" \
      org.opencontainers.image.description="An external dynamic provisioner for Kubernetes: a CSI driver and its watcher in one process" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=dependencies /opt/provisioner /opt/provisioner
COPY --from=project /build/root/ /
ENV PATH=/opt/provisioner/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1
# It runs as root: on a node it mounts volumes into Pods, and gives directories to the groups that Pods ask for.
ENTRYPOINT ["provisioner"]
CMD ["--help"]
