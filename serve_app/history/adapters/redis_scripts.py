"""The two scripts that change states in Redis, and how their arguments are put together.

Keys, each after the prefix: ``u:<user>`` its state · ``s:<session>`` its user and state · ``e:<event>``
fingerprint of the content · ``p:<product>`` category last seen · ``n:<user>`` set of the user's sessions ·
``x:<session>`` keys of its events, 16 bytes each · ``t:`` sessions sorted by latest event · ``meta:`` schema and
check of the secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

APPLY: Final = """
local prefix, schema, secret, at = ARGV[1], ARGV[2], ARGV[3], 4
local meta = redis.call('HMGET', prefix .. 'meta:', 'schema', 'secret')
local is_new = not meta[1] and not meta[2]
if not is_new and (meta[1] ~= schema or meta[2] ~= secret) then return -1 end
for i = 1, #KEYS do
  if (redis.call('GET', KEYS[i]) or '') ~= ARGV[at] then return 0 end
  at = at + 1
end
if is_new then redis.call('HSET', prefix .. 'meta:', 'schema', schema, 'secret', secret) end
local function each(width, act)
  local n = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, n do
    act(ARGV[at], ARGV[at + 1], ARGV[at + 2])
    at = at + width
  end
end
each(2, function(key, value)
  if value == '' then redis.call('DEL', key) else redis.call('SET', key, value) end
end)
each(3, function(session, user, last_s)
  redis.call('SADD', prefix .. 'n:' .. user, session)
  redis.call('ZADD', prefix .. 't:', last_s, session)
end)
each(2, function(session, events)
  redis.call('APPEND', prefix .. 'x:' .. session, events)
end)
each(2, function(session, user)
  local events = redis.call('GET', prefix .. 'x:' .. session) or ''
  for i = 1, #events, 16 do redis.call('DEL', prefix .. 'e:' .. string.sub(events, i, i + 15)) end
  redis.call('DEL', prefix .. 's:' .. session, prefix .. 'x:' .. session)
  redis.call('SREM', prefix .. 'n:' .. user, session)
  redis.call('ZREM', prefix .. 't:', session)
end)
return 1
"""
"""Compare every key with what was read, and if all are equal write everything; returns 1 if it did, else 0.

The record of schema and secret is compared first, -1 says that it is another, and written when there is none: a
database may be emptied (``FLUSHALL``) while stores of it are open.
"""

ERASE: Final = """
local prefix, user = ARGV[1], ARGV[2]
local n_sessions, n_events = 0, 0
for _, session in ipairs(redis.call('SMEMBERS', prefix .. 'n:' .. user)) do
  local events = redis.call('GET', prefix .. 'x:' .. session) or ''
  for i = 1, #events, 16 do
    n_events = n_events + redis.call('DEL', prefix .. 'e:' .. string.sub(events, i, i + 15))
  end
  n_sessions = n_sessions + redis.call('DEL', prefix .. 's:' .. session)
  redis.call('DEL', prefix .. 'x:' .. session)
  redis.call('ZREM', prefix .. 't:', session)
end
redis.call('DEL', prefix .. 'n:' .. user, prefix .. 'u:' .. user)
return {n_sessions, n_events}
"""
"""Remove a user with everything; returns the number of sessions and events removed."""


class Change:
    """What the script `APPLY` is to write, on condition that nothing of what was read changed.

    Parameters
    ----------
    read : mapping of bytes to bytes
        What was read, by full key; empty for what was not there.
    """

    def __init__(self, read: Mapping[bytes, bytes]) -> None:
        self.read = read
        self._values: dict[bytes, bytes] = {}
        self._sessions: list[bytes | int] = []
        self._events: dict[bytes, list[bytes]] = {}
        self._gone: list[bytes] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be written."""
        return not (self._values or self._gone)

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value under a full key; an empty one removes the key."""
        self._values[key] = value

    def put_event(self, name: bytes, event: bytes, session: bytes, content: bytes) -> None:
        """Write an event's fingerprint under its full key, and remember it with its session."""
        self._values[name] = content
        self._events.setdefault(session, []).append(event)

    def index_session(self, session: bytes, user: bytes, last_s: int) -> None:
        """Make a session found by its user and by its latest event."""
        self._sessions += (session, user, last_s)

    def drop_session(self, session: bytes, user: bytes) -> None:
        """Remove a session with its events."""
        self._gone += (session, user)

    def arguments(self, prefix: bytes, schema: bytes, secret: bytes) -> list[bytes | int]:
        """Return the script's arguments; the last two are those of the record of schema and secret."""
        values = [part for pair in self._values.items() for part in pair]
        events = [part for session, keys in self._events.items() for part in (session, b"".join(keys))]
        return [
            prefix,
            schema,
            secret,
            *self.read.values(),
            len(self._values),
            *values,
            len(self._sessions) // 3,
            *self._sessions,
            len(self._events),
            *events,
            len(self._gone) // 2,
            *self._gone,
        ]
