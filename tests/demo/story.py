"""The story, and what has to be seen in it: a StatefulSet's Pods die, come back, and find what the old ones wrote."""

import functools
import json
import re
import time
from collections.abc import Callable
from typing import Any

from tests.demo import bills
from tests.demo import stage as stages
from tests.demo import teller as tellers
from tests.harness import errors

SYSTEM = "provisioner-system"
_PODS = ("web-0", "web-1")
_CLAIMS = ("www-web-0", "www-web-1")
_SECONDS = 90.0
_POLL_SECONDS = 0.1

_RETAINED = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: notes}
spec:
  storageClassName: RETAIN_CLASS
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 100Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  containers:
    - name: writer
      image: docker.io/library/busybox:1.36
      command: [sh, -c, "echo 'keep me' >/notes/note"]
      volumeMounts: [{name: notes, mountPath: /notes}]
  volumes:
    - name: notes
      persistentVolumeClaim: {claimName: notes}
"""


class NotAsToldError(errors.HarnessError):
    """Something was seen that the story does not tell, or what it tells was not seen in time."""


class Story:
    """One performance of a bill."""

    def __init__(self, bill: bills.Bill, stage: stages.Stage, teller: tellers.Teller) -> None:
        self._bill = bill
        self._stage = stage
        self._teller = teller
        self._space = stage.namespace

    def play(self) -> None:
        """Play it to the end.

        Raises:
            errors.HarnessError: a step was not as told.
        """
        if self._stage.fresh:
            self._deploy()
        else:
            self._check_deployed()
        self._classes()
        self._apply()
        written = self._pages()
        self._delete_pods()
        self._same_pages(written)
        self._scale_down()
        self._delete_policy()
        self._retain_policy()

    def bring_back(self) -> None:
        """Scale up again, for somebody who wants to look around."""
        with self._teller.step("For you to look around: two replicas again"):
            self._show("scale", "statefulset/web", "--replicas=2")
            self._until("both Pods are Ready", self._ready)
            self._show("get", "pods,pvc")

    def clean_up(self) -> None:
        """Take away what the story made on a cluster that stays."""
        with self._teller.step("Cleaning up"):
            for volume in self._get("pv")["items"]:
                claim = volume["spec"].get("claimRef", {})
                if (
                    claim.get("namespace") == self._space
                    and volume["spec"].get("csi", {}).get("driver") == self._bill.driver
                ):
                    policy = json.dumps({"spec": {"persistentVolumeReclaimPolicy": "Delete"}})
                    self._stage.kubectl("patch", "pv", volume["metadata"]["name"], "--patch", policy)
            self._stage.kubectl("delete", "namespace", self._space, "--ignore-not-found", seconds=120)

    # The steps.

    def _deploy(self) -> None:
        with self._teller.step("Deploy the provisioner"):
            self._prepare()
            self._show("apply", "--server-side", "--validate=strict", "-k", self._bill.overlay, namespace="")
            for workload in self._bill.workloads:
                self._show("rollout", "status", workload, "--timeout=90s", namespace=SYSTEM, seconds=100)
            self._show("get", "pods", namespace=SYSTEM)
            self._until(
                "the kubelet knows the driver",
                lambda: self._bill.driver in self._stage.kubectl("get", "csinode", "-o", "yaml"),
            )

    def _prepare(self) -> None:
        """What an operator does before: nothing."""

    def _check_deployed(self) -> None:
        with self._teller.step("The provisioner is deployed"):
            drivers = [item["metadata"]["name"] for item in self._get("csidriver")["items"]]
            if self._bill.driver not in drivers:
                raise NotAsToldError(
                    f"this cluster has no CSIDriver {self._bill.driver}; first: kubectl apply -k {self._bill.overlay}"
                )
            self._show("get", "csidriver", self._bill.driver, namespace="")

    def _classes(self) -> None:
        name = self._bill.storage_class
        with self._teller.step(f"A StorageClass `{name}`, and what else there is"):
            self._show("get", "storageclass", namespace="")
            found = self._get("storageclass", name)
            self._expect(f"the driver behind `{name}`", self._bill.driver, found["provisioner"])

    def _apply(self) -> None:
        with self._teller.step("A StatefulSet `web` with a volumeClaimTemplate `www`: 2 replicas, 1Gi each"):
            self._stage.kubectl("create", "namespace", self._space)
            self._show("apply", "--validate=strict", "-f", self._bill.statefulset)
            for claim in _CLAIMS:
                self._until(f"claim {claim} is Bound", functools.partial(self._is_bound, claim))
            self._until("both Pods are Ready", self._ready)
            self._show("get", "pvc")
            self._show("get", "pods,pv")
            for claim in _CLAIMS:
                found = self._get("pvc", claim)
                self._expect(f"the size of {claim}", "1Gi", found["status"]["capacity"]["storage"])
                self._expect(f"the access modes of {claim}", ["ReadWriteOnce"], found["status"]["accessModes"])

    def _pages(self) -> dict[str, str]:
        with self._teller.step("Each Pod wrote `hello $(hostname)` to its volume, and serves it on port 80"):
            pages = {pod: self._page(pod) for pod in _PODS}
            for pod, uid in self._uids().items():
                self._expect(f"what {pod} serves", f"hello {pod}\nwritten by Pod {uid}\n", pages[pod])
            self._teller.seen("hello web-0, hello web-1: each page names the Pod that wrote it")
            return pages

    def _delete_pods(self) -> None:
        with self._teller.step("Both Pods are deleted, and come back with the same names"):
            old = self._uids()
            self._show("delete", "pod", *_PODS)
            self._until("both Pods are back and Ready", lambda: self._ready() and not self._same(old))
            self._show("get", "pods")
            for pod, uid in self._uids().items():
                self._teller.seen(f"{pod} is another Pod now: {uid} instead of {old[pod]}")

    def _same_pages(self, written: dict[str, str]) -> None:
        with self._teller.step("They still serve what the old Pods wrote"):
            for pod in _PODS:
                page = self._page(pod)
                self._expect(f"what {pod} serves", written[pod], page)
                if self._uids()[pod] in page:
                    raise NotAsToldError(f"{pod} serves a page of its own, not the old Pod's")
            self._teller.seen("hello web-0, hello web-1, written by the old Pods")

    def _scale_down(self) -> None:
        with self._teller.step("Scaled to 0, the claims stay"):
            self._show("scale", "statefulset/web", "--replicas=0")
            self._until("the Pods are gone", lambda: not self._get("pods")["items"])
            self._show("get", "pods,pvc")
            for claim in _CLAIMS:
                self._expect(f"the phase of {claim}", "Bound", self._phase(claim))

    def _delete_policy(self) -> None:
        with self._teller.step("Reclaim policy Delete: with the claim goes its volume"):
            volume = self._volume("www-web-1")
            self._show("delete", "pvc", "www-web-1")
            self._until(
                "the PersistentVolume is gone", lambda: volume not in self._stage.kubectl("get", "pv", "-o", "name")
            )
            self._show("get", "pv", namespace="")
            self._expect("the phase of www-web-0", "Bound", self._phase("www-web-0"))

    def _retain_policy(self) -> None:
        with self._teller.step("Reclaim policy Retain: the volume outlives its claim, with what is in it"):
            self._teller.command(
                f"kubectl apply -f -   # a claim `notes` of class {self._bill.retain_class}, a Pod that writes a note"
            )
            manifest = _RETAINED.replace("RETAIN_CLASS", self._bill.retain_class)
            self._teller.output(self._apply_text(manifest))
            self._until("the note is written", lambda: self._get("pod", "writer")["status"]["phase"] == "Succeeded")
            volume = self._volume("notes")
            self._show("delete", "pod/writer", "pvc/notes")
            released = "the PersistentVolume is Released"
            self._until(released, lambda: self._get("pv", volume)["status"]["phase"] == "Released")
            self._show("get", "pv", namespace="")
            self._look_at_retained(self._get("pv", volume)["spec"]["csi"]["volumeHandle"])

    def _look_at_retained(self, handle: str) -> None:
        note = self._stage.read_volume(handle, "note")
        if note is not None:
            self._expect("the note on the node's disk", "keep me\n", note)
            self._teller.seen("the note is still on the node's disk")

    # What the steps are made of.

    def _show(self, *arguments: str, namespace: str | None = None, seconds: float = 60) -> None:
        namespace = self._space if namespace is None else namespace
        scope = ["-n", namespace] if namespace else []
        self._teller.command(" ".join(["kubectl", *scope, *arguments]))
        self._teller.output(self._stage.kubectl(*scope, *arguments, seconds=seconds))

    def _apply_text(self, manifest: str, *, namespace: str | None = None) -> str:
        namespace = self._space if namespace is None else namespace
        scope = ["-n", namespace] if namespace else []
        return self._stage.kubectl("apply", *scope, "--validate=strict", "-f", "-", stdin=manifest)

    def _get(self, *arguments: str) -> Any:
        return json.loads(self._stage.kubectl("-n", self._space, "get", *arguments, "-o", "json"))

    def _page(self, pod: str) -> str:
        path = f"/api/v1/namespaces/{self._space}/pods/{pod}:80/proxy/"
        self._teller.command(f"kubectl get --raw {path}")
        page = self._stage.kubectl("get", "--raw", path)
        self._teller.output(page)
        return page

    def _uids(self) -> dict[str, str]:
        return {pod: self._get("pod", pod)["metadata"]["uid"] for pod in _PODS}

    def _same(self, old: dict[str, str]) -> bool:
        now = self._uids()
        return any(now[pod] == old[pod] for pod in _PODS)

    def _ready(self) -> bool:
        ready = {
            pod["metadata"]["name"]
            for pod in self._get("pods")["items"]
            for condition in pod["status"].get("conditions", ())
            if (condition["type"], condition["status"]) == ("Ready", "True")
            and "deletionTimestamp" not in pod["metadata"]
        }
        return ready >= set(_PODS)

    def _phase(self, claim: str) -> str:
        claims = self._stage.kubectl("-n", self._space, "get", "pvc", claim, "--ignore-not-found", "-o", "json")
        return json.loads(claims)["status"].get("phase", "") if claims.strip() else ""

    def _is_bound(self, claim: str) -> bool:
        return self._phase(claim) == "Bound"

    def _volume(self, claim: str) -> str:
        name = str(self._get("pvc", claim)["spec"].get("volumeName", ""))
        if not re.fullmatch(r"pvc-[0-9a-f-]{36}", name):
            raise NotAsToldError(f"claim {claim} names no volume of ours: {name!r}")
        return name

    def _until(self, what: str, condition: Callable[[], bool], seconds: float = _SECONDS) -> None:
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > seconds:
                raise NotAsToldError(f"not seen within {seconds:.0f} s: {what}\n{self._circumstances()}")
            time.sleep(_POLL_SECONDS)
        self._teller.seen(f"{what} ({time.monotonic() - started:.1f} s)")

    def _expect(self, what: str, expected: object, actual: object) -> None:
        if expected != actual:
            raise NotAsToldError(f"{what}: expected {expected!r}, saw {actual!r}\n{self._circumstances()}")

    def _circumstances(self) -> str:
        events = ("-n", self._space, "get", "events", "--sort-by=.lastTimestamp")
        logs = [("-n", SYSTEM, "logs", workload, "--tail=30") for workload in self._bill.workloads]
        return "\n".join(self._stage.kubectl(*command) for command in (events, *logs))
