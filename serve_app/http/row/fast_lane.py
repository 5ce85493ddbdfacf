"""Plain requests to ``POST /predict_purchase`` without ASGI: no task, no wrapper, no future for a request.

What is not plain (a query, a pinned version, ``observe``, a body that is refused) is left to
`serve_app.http.row.predict`, which says the same of everything.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from serve_app.errors import ScorecatError
from serve_app.http.admission import HOT_PATH, Admission, Headers
from serve_app.http.row.predict import describe_answer, list_values
from serve_app.http.row.row_body import parse_row, read_keys
from serve_app.models.service.ports import Ongoing
from serve_app.scoring.service.traffic import Traffic
from serve_app.scoring.service.version_scorer import Score

Write = Callable[[int, bytes, Headers], None]
"""Sends a whole answer: status, body, and all headers but the length."""


class FastLane:
    """Takes the requests that are plain.

    Attributes
    ----------
    ongoing : Ongoing or None
        Told of every request that is under way.
    """

    def __init__(self, traffic: Traffic, admission: Admission) -> None:
        self._traffic = traffic
        self._admission = admission
        self.ongoing: Ongoing | None = None

    def take(self, headers: Headers, body: bytes, write: Write) -> bool:
        """Return whether the request is plain; `write` is then called once, now or later.

        Parameters
        ----------
        headers : list of (bytes, bytes)
            Names in lower case.
        body : bytes
        write : Write
        """
        given = dict(headers)
        if b"content-encoding" in given or b"x-model-version" in given:
            return False
        exchange = self._admission.open("POST", HOT_PATH, given)
        try:
            self._admission.admit(exchange)
            deadline_at = exchange.find_deadline()
            exchange.check_json()
            row = parse_row(body)
            user = row["user_id"]
            route = self._traffic.choose(None if user is None else str(user))
        except ScorecatError:
            return False
        if row["observe"] or not route.scorer.is_purchase:
            return False
        exchange.version = route.scorer.version
        ongoing = self.ongoing

        def settle(outcome: Score | Exception) -> None:
            if isinstance(outcome, Score):
                members, answered = describe_answer(row, route, outcome)
                status, text = 200, orjson.dumps(members)
            else:
                status, text, answered = exchange.refuse(outcome)
            # on the way of all others Ray adds it
            answered.append((b"x-request-id", exchange.request_id.encode()))
            write(status, text, answered)
            if ongoing is not None:
                ongoing.end()
            exchange.log(status)

        if ongoing is not None:
            ongoing.begin()
        try:
            route.put(list_values(row, read_keys(row)), deadline_at, settle)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller gets an answer
            settle(exc)
        return True
