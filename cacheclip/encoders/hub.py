"""Is the model hub there? Asked once and briefly, because its client would retry for 46 s a model.

Nothing here loads torch or the hub's client.
"""

import os
import sys
import threading
import time
import urllib.error
import urllib.request

from cacheclip.errors import MachineError

PATIENCE = 3.0  # seconds from the start of the probe; name look-ups have no time limit of their own


def endpoint() -> str:
    """Give the hub's address, which `HF_ENDPOINT` may move."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


class NoWeightsError(MachineError):
    """Weights, or what belongs to them, are not here and the hub does not give them."""


class Probe:
    """One look at the hub, in a thread beside whatever else takes time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._deadline = 0.0
        self._reached = False

    def start(self) -> None:
        """Begin to look; the answer is fetched with `online`."""
        self._deadline = time.monotonic() + PATIENCE
        self._thread = threading.Thread(target=self._look, name="hub-probe", daemon=True)
        self._thread.start()

    def online(self) -> bool:
        """Say whether the hub answered; wait until 3 s after the start at most."""
        if self._thread is None:
            self.start()
        if self._thread is not None:
            self._thread.join(max(0.0, self._deadline - time.monotonic()))
        return self._reached

    def _look(self) -> None:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
            return
        request = urllib.request.Request(endpoint(), method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE):
                self._reached = True
        except urllib.error.HTTPError as error:
            self._reached = error.code < 500
        except (OSError, ValueError):
            self._reached = False


def force_offline() -> None:
    """Make the hub's client answer from its cache at once, in this process and its children."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # it read the variable when it was imported
        vars(constants)["HF_HUB_OFFLINE"] = True
