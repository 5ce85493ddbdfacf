"""Where the states of live history are, as it is handed to every process that opens them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateConfig:
    """What a process needs to open the states.

    Attributes
    ----------
    place : str
        Path of a SQLite file, or URL of a Redis server.
    secret_path : str
        File with the secret that ids are keyed with.
    retention_s : int or None
        Sessions whose latest event is older are forgotten, older events refused; None keeps everything.
    timeout_s : float
        How long a micro-batch waits for a look-up before it is scored with defaults.
    """

    place: str
    secret_path: str
    retention_s: int | None = None
    timeout_s: float = 0.25

    @property
    def is_local(self) -> bool:
        """Whether the place is a file of this machine."""
        return "://" not in self.place
