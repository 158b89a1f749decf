"""Makes images until it is killed: `rbd_maker.py MONITORS POOL COUNT`, the key on stdin."""

import sys
from concurrent import futures

from provisioner.backends.rbd.client import api, librbd

THREADS = 16


def main(monitors: str, key: str, pool: str, count: int) -> None:
    credentials = api.Credentials(cluster="test", monitors=(monitors,), user="csi", key=key)
    images = librbd.LibradosCluster(credentials).images(api.Place(pool))
    print("begins", flush=True)
    with futures.ThreadPoolExecutor(THREADS) as workers:
        list(workers.map(lambda n: images.create(f"image-{n}", 2**30, metadata={"state": "ready"}), range(count)))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.readline().strip(), sys.argv[2], int(sys.argv[3]))
