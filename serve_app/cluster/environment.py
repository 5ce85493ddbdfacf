"""Environment variables that `up` sets for every process of its cluster."""

from __future__ import annotations

from typing import Final

SOCKETS: Final = "SCORECAT_SOCKETS"
"""Folder of the sockets that replicas answer at directly; unset where replicas may be on several machines."""
SHARED_ARRAYS: Final = "SCORECAT_SHARED_ARRAYS"
"""Folder of the arrays that calls share, on a file system in memory."""
