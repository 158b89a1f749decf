"""Whether the storage works, for `/readyz`: an answer in time, also where the storage itself takes longer.

A cluster whose monitors are gone is found out after its own time limit, which is longer than a probe of the kubelet
waits. Such a look goes on beside, and until it has ended, what the last one found is said.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from provisioner import errors

_PATIENCE_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Probing:
    """Looks at the storage when it is asked, one look at a time; logs each change of what it finds."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        *,
        patience: float = _PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._patience = patience
        self._clock = clock
        self._since = 0.0
        self._look: asyncio.Task[None] | None = None
        self._found: errors.ProvisionerError | None = None
        self._has_looked = False

    async def check(self) -> None:
        """Return where the storage works; a check for `/readyz`.

        Raises:
            errors.ProvisionerError: why it does not, as far as is known in time.
        """
        if self._look is None:
            self._since = self._clock()
            self._look = asyncio.create_task(self._find_out())
        await asyncio.wait([self._look], timeout=self._patience)
        if self._look is not None and (not self._has_looked or self._found is None):
            raise errors.BackendUnavailableError(
                f"the storage has not answered for {self._clock() - self._since:.0f} s"
            )
        if self._found is not None:
            raise self._found

    async def _find_out(self) -> None:
        found: errors.ProvisionerError | None = None
        try:
            await self._probe()
        except errors.ProvisionerError as error:
            found = error
        except Exception as error:
            log.exception("the look at the storage failed")
            found = errors.BackendUnavailableError(f"the storage failed unexpectedly: {type(error).__name__}")
        finally:
            self._look = None
        self._note(found)

    def _note(self, found: errors.ProvisionerError | None) -> None:
        if found is not None and str(found) != str(self._found):
            log.error("storage cannot be used", error=str(found))
        elif found is None and self._found is not None:
            log.info("storage works again")
        self._found, self._has_looked = found, True
