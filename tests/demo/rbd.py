"""The story on Ceph: the same, with the images behind it, the trash, and the proof that nobody knows where it is."""

import base64
import json
from typing import Any

import yaml

from tests.demo import stage as stages
from tests.demo import story

_POOL = "kube"
_CONTROLLER = "deployment/provisioner-rbd-controller"
_SECRET = "rbd-clusters"
_SEARCHED = "persistentvolumeclaims,persistentvolumes,pods,events,storageclasses,csidrivers,csinodes,volumeattachments"
_PURGE_SECONDS = 150.0

_BRIEF = """\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: rbd-brief}
provisioner: rbd.csi.provisioner
parameters: {pool: kube, csi.storage.k8s.io/fstype: ext4, trashRetention: 5s}
reclaimPolicy: Delete
volumeBindingMode: Immediate
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: brief}
spec:
  storageClassName: rbd-brief
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 64Mi}}
"""


class RbdStory(story.Story):
    """One performance on a Ceph cluster."""

    def play(self) -> None:
        """Play it to the end.

        Raises:
            errors.HarnessError: a step was not as told.
        """
        super().play()
        self._restore()
        self._purge()
        self._nobody_was_told()

    def clean_up(self) -> None:
        """Take away what the story made on a cluster that stays."""
        super().clean_up()
        self._stage.kubectl("delete", "storageclass", "rbd-brief", "--ignore-not-found")

    # The steps that only this story has.

    def _prepare(self) -> None:
        if isinstance(self._stage, stages.Own):
            # Before the Pods: one that starts without the Secret gets it when the kubelet looks again, in a minute.
            self._show("create", "namespace", story.SYSTEM, namespace="")
            self._teller.command(f"kubectl apply -f -   # the Secret {_SECRET}, with our Ceph cluster in it")
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": _SECRET, "namespace": story.SYSTEM},
                "stringData": {"clusters.yaml": self._stage.ceph_clusters()},
            }
            self._teller.output(self._stage.kubectl("apply", "-f", "-", stdin=json.dumps(secret)))

    def _pages(self) -> dict[str, str]:
        written = super()._pages()
        with self._teller.step("The images behind the claims: as Ceph lists them, and as we do"):
            for listed in (("ls", _POOL), ("du", "--pool", _POOL)):
                self._show_rbd(*listed)
            self._show_volumes()
            for claim in ("www-web-0", "www-web-1"):
                (entry,) = self._volumes(f"{self._space}/{claim}")
                self._expect(f"the PersistentVolume of {claim}", self._volume(claim), entry["persistentVolume"])
                (same,) = self._volumes(entry["where"])
                self._expect(f"the claim of {entry['where']}", f"{self._space}/{claim}", same["claim"])
                self._expect_in_ceph(entry["where"])
                self._show_rbd("image-meta", "list", entry["where"].partition("/")[2])
        return written

    def _delete_policy(self) -> None:
        (entry,) = self._volumes(f"{self._space}/www-web-1")
        super()._delete_policy()
        with self._teller.step("Its image is in the trash, where it can be had back from"):
            self._show_rbd("trash", "ls", _POOL)
            self._show_volumes("--trash")
            (trashed,) = self._volumes(entry["id"], "--trash")
            self._expect("the claim that the trash remembers", f"{self._space}/www-web-1", trashed["claim"])

    def _look_at_retained(self, handle: str) -> None:
        (entry,) = self._volumes(handle)
        self._expect_in_ceph(entry["where"])
        self._teller.seen(f"the image {entry['where']} is still in the pool")

    def _restore(self) -> None:
        claim = f"{self._space}/www-web-1"
        with self._teller.step("`provisioner restore` takes it out of the trash, and its Pod reads its old page"):
            (trashed,) = self._volumes(claim, "--trash")
            command = ("-n", story.SYSTEM, "exec", _CONTROLLER, "--", "provisioner", "restore", trashed["id"])
            self._teller.command(f"kubectl {' '.join(command)} | kubectl apply -f -")
            self._teller.output(self._apply_text(self._stage.kubectl(*command), namespace=""))
            self._until("claim www-web-1 is Bound", lambda: self._is_bound("www-web-1"))
            self._show("scale", "statefulset/web", "--replicas=2")
            self._until("both Pods are Ready", self._ready)
            page = self._page("web-1")
            if not page.startswith("hello web-1\n") or self._uids()["web-1"] in page:
                raise story.NotAsToldError(f"web-1 does not serve what an older Pod wrote: {page!r}")
            self._teller.seen("web-1 serves what its first Pod wrote")
            self._show("scale", "statefulset/web", "--replicas=0")
            self._until("the Pods are gone", lambda: not self._get("pods")["items"])

    def _purge(self) -> None:
        with self._teller.step("A class with trashRetention: 5s: the trash is emptied of its images soon"):
            self._teller.command("kubectl apply -f -   # a class `rbd-brief`, and a claim `brief` of it")
            self._teller.output(self._apply_text(_BRIEF))
            self._until("claim brief is Bound", lambda: self._is_bound("brief"))
            (entry,) = self._volumes(f"{self._space}/brief")
            self._show("delete", "pvc", "brief")
            self._until("its image left its place", lambda: not self._all_volumes(entry["id"]))
            self._until(
                "the trash holds it no more", lambda: not self._all_volumes(entry["id"], "--trash"), _PURGE_SECONDS
            )
            self._show_rbd("trash", "ls", _POOL)

    def _nobody_was_told(self) -> None:
        with self._teller.step("No claim, volume, Pod, event or log line names a monitor, the user or the key"):
            secret = yaml.safe_load(self._stage.kubectl("-n", story.SYSTEM, "get", "secret", _SECRET, "-o", "yaml"))
            clusters = base64.b64decode(secret["data"]["clusters.yaml"]).decode()
            needles = _needles(clusters)
            haystacks = self._haystacks()
            for where, text in haystacks.items():
                for what, needle in needles.items():
                    if needle in text:
                        raise story.NotAsToldError(f"{where} tells {what}")
            self._expect("what the same search finds in the Secret", len(needles) // 2, _found(needles, clusters))
            lines = sum(text.count("\n") for text in haystacks.values())
            self._teller.seen(f"none of {len(needles)} words is in {lines} lines of {', '.join(haystacks)}")

    def _haystacks(self) -> dict[str, str]:
        found = {"API objects": self._stage.kubectl("get", _SEARCHED, "--all-namespaces", "-o", "yaml")}
        for pod in json.loads(self._stage.kubectl("-n", story.SYSTEM, "get", "pods", "-o", "json"))["items"]:
            name = pod["metadata"]["name"]
            found[f"the log of {name}"] = self._stage.kubectl("-n", story.SYSTEM, "logs", name, "--all-containers")
        return found | {f"the log of {name}": text for name, text in self._stage.node_logs().items()}

    # What the steps are made of.

    def _show_rbd(self, *arguments: str) -> None:
        printed = self._stage.rbd(*arguments)
        if printed is not None:
            self._teller.command(f"rbd {' '.join(arguments)}")
            self._teller.output(printed)

    def _show_volumes(self, *arguments: str) -> None:
        command = ("-n", story.SYSTEM, "exec", _CONTROLLER, "--", "provisioner", "volumes", *arguments)
        self._teller.command(f"kubectl {' '.join(command)}")
        self._teller.output(self._stage.kubectl(*command))

    def _volumes(self, name: str, *arguments: str) -> list[dict[str, Any]]:
        """What we list of this name; there has to be something."""
        found = self._all_volumes(name, *arguments)
        if not found:
            raise story.NotAsToldError(f"`provisioner volumes` does not list {name}")
        return found

    def _all_volumes(self, name: str, *arguments: str) -> list[dict[str, Any]]:
        command = ("-n", story.SYSTEM, "exec", _CONTROLLER, "--", "provisioner", "volumes", "--output=json", *arguments)
        listed: list[dict[str, Any]] = json.loads(self._stage.kubectl(*command))["volumes"]
        return [entry for entry in listed if name in (entry["claim"], entry["id"], entry["where"])]

    def _expect_in_ceph(self, where: str) -> None:
        printed = self._stage.rbd("ls", _POOL)
        if printed is not None and where.rpartition("/")[2] not in printed.split():
            raise story.NotAsToldError(f"the pool has no image {where}:\n{printed}")


def _needles(clusters: str) -> dict[str, str]:
    """Every word that nobody may be told, as it is and in base64, by what it is."""
    words: dict[str, str] = {}
    for entry in yaml.safe_load(clusters):
        words["the user"], words["the key"] = entry["user"], entry["key"]
        for number, monitor in enumerate(entry["monitors"]):
            words[f"the address of monitor {number}"] = _address(monitor)
    return words | {f"{what}, in base64": base64.b64encode(word.encode()).decode() for what, word in words.items()}


def _address(monitor: str) -> str:
    """The host of `host`, `host:port` or `[v2:host:port,…]`."""
    return monitor.strip("[]").split(",")[0].removeprefix("v2:").removeprefix("v1:").split(":")[0]


def _found(needles: dict[str, str], text: str) -> int:
    return sum(needle in text for needle in needles.values())
