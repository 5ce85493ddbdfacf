"""What is done with Ray's private names. Ray is not started."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray
from ray.serve._private import replica as ray_replica

from serve_app.cluster.ray_internals import HandleReplicas, ReplicaLoad, bind_to_node_address

pytestmark = pytest.mark.unit


def test_a_replica_binds_its_nodes_address_however_often_it_is_told_to(monkeypatch):
    bound = []
    monkeypatch.setattr(ray_replica, "add_port_to_grpc_server", lambda server, address: bound.append(address))
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    for _ in range(2):
        bind_to_node_address()
    for address in ("[::]:0", "127.0.0.1:7000"):
        ray_replica.add_port_to_grpc_server(None, address)
    assert bound == ["10.0.0.7:0", "127.0.0.1:7000"]


def test_a_handle_knows_its_replicas_after_its_first_call_and_counts_calls():
    counted = []
    manager = SimpleNamespace(
        inc_num_running_requests_for_replica=lambda replica: counted.append((1, replica)),
        dec_num_running_requests_for_replica=lambda replica: counted.append((-1, replica)),
    )
    router = SimpleNamespace(request_router=None, _metrics_manager=manager)
    replicas = HandleReplicas(SimpleNamespace(_router=SimpleNamespace(_asyncio_router=router)))
    assert replicas.find() is None
    router.request_router = SimpleNamespace(curr_replicas={"a": object()})
    assert list(replicas.find()) == ["a"]
    replicas.begin("a")
    replicas.end("a")
    assert counted == [(1, "a"), (-1, "a")]


def test_a_replica_counts_what_it_answers_itself():
    counted = []
    load = ReplicaLoad(
        SimpleNamespace(
            inc_num_ongoing_requests=lambda _: counted.append(1), dec_num_ongoing_requests=lambda _: counted.append(-1)
        )
    )
    load.begin()
    load.end()
    assert counted == [1, -1]
