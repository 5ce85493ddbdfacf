"""Large arrays pass between processes of one machine through files in memory."""

from __future__ import annotations

import os
import pickle
import time

import numpy as np
import pyarrow as pa
import pytest

from serve_app.cluster.environment import SHARED_ARRAYS
from serve_app.deployments.calls import shared_arrays
from serve_app.deployments.calls.shared_arrays import (
    MAX_AGE_S,
    MIN_BYTES,
    PackedBatch,
    SharedArray,
    pack,
    remove,
    reserve,
    sweep,
    unpack,
)
from serve_app.errors import ReplicaLostError

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(SHARED_ARRAYS, str(tmp_path))
    return tmp_path


def large(order="F"):
    return np.asarray(np.random.default_rng(0).random((MIN_BYTES // 4, 3)), dtype=np.float32, order=order)


@pytest.mark.parametrize("order", ["F", "C"])
def test_a_large_array_comes_back_as_it_was_from_another_process_view(folder, order):
    matrix = large(order)
    shared = pickle.loads(pickle.dumps(pack(matrix, reserve())))
    assert isinstance(shared, SharedArray)
    found = shared.open()
    np.testing.assert_array_equal(found, matrix)
    assert found.flags[f"{order}_CONTIGUOUS"]
    assert found.dtype == np.float32


def test_a_small_value_travels_by_itself(folder):
    small = np.zeros(10)
    assert pack(small, reserve()) is small
    assert unpack(small) is small


def test_without_a_folder_everything_travels_by_itself(monkeypatch):
    monkeypatch.delenv(SHARED_ARRAYS, raising=False)
    assert reserve() is None
    matrix = large()
    assert pack(matrix, None) is matrix
    remove(None)


def test_when_the_memory_is_full_the_call_carries_the_value(folder, monkeypatch):
    monkeypatch.setattr(shared_arrays.os, "writev", lambda *_: 7)  # a short write is how a full file system says so
    matrix = large()
    assert pack(matrix, reserve()) is matrix


def test_a_folder_that_was_removed_does_no_harm(folder):
    folder.rmdir()
    assert reserve() is None
    assert sweep() == 0


def test_an_answer_that_comes_after_its_caller_gave_up_leaves_no_file(folder):
    path = reserve()
    remove(path)
    matrix = large()
    assert pack(matrix, path) is matrix
    assert not list(folder.iterdir())


def test_a_view_outlives_the_file_and_a_late_reader_is_told_the_rows_are_gone(folder):
    matrix = large()
    shared = pack(matrix, reserve())
    view = shared.open()
    remove(shared.path)
    remove(shared.path)
    np.testing.assert_array_equal(view, matrix)
    with pytest.raises(ReplicaLostError, match="given up"):
        shared.open()


def test_only_arrays_older_than_any_request_are_swept(folder):
    old, young = pack(large(), reserve()), pack(large(), reserve())
    long_ago = time.time() - MAX_AGE_S - 1
    os.utime(old.path, (long_ago, long_ago))
    assert sweep() == 1
    assert [str(path) for path in folder.iterdir()] == [young.path]


def test_a_packed_slice_brings_its_own_rows_only_and_equals_the_batch(folder):
    whole = pa.record_batch({"price": np.arange(100_000.0), "brand": [f"b{k % 7}" for k in range(100_000)]})
    part = whole.slice(50_000, 10)
    packed = PackedBatch.of(part)
    assert packed.body.size < 2_000
    assert pickle.loads(pickle.dumps(packed, protocol=5)).unpack().equals(part)
    shared = pack(PackedBatch.of(whole), reserve())
    assert isinstance(shared, SharedArray)
    assert shared.open().unpack().equals(whole)


def test_a_slice_of_a_batch_with_dictionaries_travels_whole():
    names = pa.array(["apple", None, "samsung", "apple"]).dictionary_encode()
    batch = pa.record_batch([names, pa.array([1.0, 2.0, 3.0, 4.0])], ["brand", "price"]).slice(1)
    packed = pickle.loads(pickle.dumps(PackedBatch.of(batch), protocol=5))
    assert packed.unpack().equals(batch)
