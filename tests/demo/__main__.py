"""The demo's command: `make demo` calls it.

python -m tests.demo [--backend=rbd] [--keep] [--cluster=current] [--stop]
"""

import argparse
import os
import signal
import sys
from types import FrameType

from tests.demo import bills, rbd, stage, story, teller
from tests.harness import errors

_INTERRUPTED = 130
_STORIES = {"directory": (story.Story, bills.DIRECTORY), "rbd": (rbd.RbdStory, bills.RBD)}


def main() -> int:
    """Play the story; 0 when every step was as told."""
    parser = argparse.ArgumentParser(prog="make demo", description="Play the StatefulSet story.")
    parser.add_argument("--backend", choices=list(_STORIES), default="directory", help="where the volumes live")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    parser.add_argument("--cluster", choices=["own", "current"], default="own", help="whose cluster to play on")
    parser.add_argument("--stop", action="store_true", help="end the clusters that were kept, and play nothing")
    options = parser.parse_args()
    telling = teller.Teller()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if options.stop:
            stage.stop_kept(telling.note)
        elif options.cluster == "current":
            _on_the_current_cluster(telling, options.backend)
        else:
            _on_a_cluster_of_our_own(telling, options.backend, keep=options.keep)
    except KeyboardInterrupt:
        telling.problem("interrupted; everything that was started is taken away")
        return _INTERRUPTED
    except errors.HarnessError as error:
        telling.problem(str(error))
        return 1
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _on_a_cluster_of_our_own(telling: teller.Teller, backend: str, *, keep: bool) -> None:
    if stage.machine_has_a_kubelet():
        raise errors.HarnessError(
            "This machine runs a kubelet of its own; the demo starts nothing beside it.\n"
            "To play the story on the cluster of your current kubeconfig: make demo CLUSTER=current"
        )
    if os.geteuid() != 0:
        raise errors.HarnessError("The demo makes namespaces and mounts, so it needs root: sudo make demo")
    play, bill = _STORIES[backend]
    telling.title(bill.title)
    with stage.own(telling, with_ceph=bill is bills.RBD) as cluster:
        performance = play(bill, cluster, telling)
        try:
            performance.play()
            if keep:
                performance.bring_back()
        finally:
            if keep:
                telling.title("The cluster is up; look around with the first command, end it with the second")
                telling.command(f"{cluster.keep()} get pods,pvc,pv --all-namespaces")
                telling.command("make demo-stop")
    if keep:
        telling.ending(f"Every step was as told, in {telling.elapsed:.0f} s.")
        return
    rest = stage.left_behind(cluster.plane.sandbox)
    if rest:
        raise errors.HarnessError(f"this was left behind: {', '.join(rest)}")
    telling.ending(f"Every step was as told, in {telling.elapsed:.0f} s. Nothing is left behind.")


def _on_the_current_cluster(telling: teller.Teller, backend: str) -> None:
    play, bill = _STORIES[backend]
    telling.title(f"{bill.title}, on the current kubeconfig's cluster")
    performance = play(bill, stage.Current(), telling)
    try:
        performance.play()
    finally:
        performance.clean_up()
    telling.ending(f"Every step was as told, in {telling.elapsed:.0f} s.")


if __name__ == "__main__":
    sys.exit(main())
