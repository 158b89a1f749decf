"""What is remembered of a claim between the attempts to provision it, by the claim's uid.

Only this process's memory: after a restart a request is resolved anew, and the driver's own idempotency by name, and
the PersistentVolume's fixed name, keep a claim from getting two volumes.
"""

import dataclasses

from provisioner import model
from provisioner.controllers import requests
from provisioner.kube import clock, objects


@dataclasses.dataclass(slots=True)
class Attempt:
    """The state of one claim.

    Attributes:
        intent: what is asked for, the same with each call.
        begun: when the first attempt began, on the process's clock.
        notice: what tells the user that the driver is at work, unless it is done before.
        in_background: the driver may be making the volume: only the same call again may follow.
        tries: calls without a final answer, so far.
        made: the driver's answer, and the PersistentVolume that has still to be saved.
    """

    intent: requests.Intent
    begun: float
    notice: clock.Timer
    in_background: bool = False
    tries: int = 0
    made: tuple[model.Volume, objects.PersistentVolume] | None = None
