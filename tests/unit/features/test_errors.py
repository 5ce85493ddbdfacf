"""Every error survives the way between replicas and has one code and one status."""

from __future__ import annotations

import pickle

import pytest

from serve_app import errors as module
from serve_app.errors import (
    BadRequestError,
    FieldError,
    InvariantError,
    NotReadyError,
    OverloadedError,
    PackageError,
    ScorecatError,
)
from serve_app.http.problems import STATUS, TITLES, describe_problem, status_of

pytestmark = pytest.mark.unit


def subclasses(kind: type) -> list[type]:
    return [kind, *(s for child in kind.__subclasses__() for s in subclasses(child))]


ALL = subclasses(ScorecatError)
LEAVES = [kind for kind in ALL if not kind.__subclasses__()]


def make(kind):
    if issubclass(kind, NotReadyError):
        return kind("try later", 2.5)
    return kind("this is wrong", (FieldError("/price", "must be above 0"), FieldError("", "all of it")))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("protocol", [2, 5])
def test_an_error_survives_pickling_with_its_fields(kind, protocol):
    error = make(kind)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == str(error)
    assert back.args == error.args


def test_every_code_is_unique():
    codes = [kind.__dict__.get("code") for kind in ALL]
    assert None not in codes
    assert len(set(codes)) == len(codes)


def test_the_tree_drawn_in_the_docstring_is_the_tree():
    drawn = {word for word in module.__doc__.split() if word.endswith("Error")}
    assert drawn == {kind.__name__ for kind in ALL}


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_has_the_status_of_who_must_act(kind):
    assert any(parent in STATUS for parent in kind.__mro__[:-3])
    status = status_of(make(kind))
    assert status in TITLES
    if issubclass(kind, BadRequestError):
        assert 400 <= status < 500
    elif issubclass(kind, NotReadyError):
        assert status in (429, 503, 504)
    else:
        assert status == 500


@pytest.mark.parametrize("kind", [k for k in ALL if issubclass(k, NotReadyError)])
def test_whoever_may_try_again_is_told_when(kind):
    for seconds, header in ((0.01, b"1"), (1.0, b"1"), (1.2, b"2"), (30.0, b"30")):
        _, _, headers = describe_problem(kind("later", seconds), "r")
        assert headers == [(b"retry-after", header)]


@pytest.mark.parametrize("kind", [k for k in ALL if issubclass(k, InvariantError)] + [ScorecatError])
def test_an_internal_error_says_nothing_of_the_inside(kind):
    status, members, headers = describe_problem(kind("/secret/path is torn"), "request-7")
    assert status == 500
    assert "secret" not in str(members)
    assert kind.code in members["detail"]
    assert members["request_id"] == "request-7"
    assert headers == []


def test_an_errors_text_names_its_fields():
    assert str(make(BadRequestError)) == "this is wrong: /price: must be above 0; (all): all of it"
    assert str(PackageError("torn")) == "torn"


def test_an_unlisted_type_has_the_status_of_its_nearest_base():
    class NewError(OverloadedError):
        pass

    assert status_of(NewError("x")) == 503
