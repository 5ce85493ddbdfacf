"""A client of the service, sync and async. It knows HTTP and the errors, nothing of Ray or the server's inside."""

from serve_app.client.calls import Clocks
from serve_app.client.clients import AsyncClient, Client
from serve_app.client.events import EventError, RecordedEvents
from serve_app.client.rows import Prediction, Row

__all__ = ["AsyncClient", "Client", "Clocks", "EventError", "Prediction", "RecordedEvents", "Row"]
