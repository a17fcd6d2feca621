"""The tree of errors: drawn as it is, each told in a sentence, and all that a service raises is in it."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

from forebay import errors
from forebay.errors import ForebayError


def tree(root: type, depth: int = 0) -> Iterator[tuple[int, str]]:
    yield depth, root.__name__
    below = [each for each in vars(errors).values() if inspect.isclass(each) and root in each.__bases__]
    for each in below:
        yield from tree(each, depth + 1)


def drawn() -> list[tuple[int, str]]:
    lines = re.findall(r"^    ([│├└─ ]*)([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    return [(len(indent) // 4, name) for indent, name in lines]


def test_the_tree_is_drawn_as_it_is() -> None:
    assert sorted(drawn()) == sorted(tree(ForebayError))


def test_every_error_says_what_it_means() -> None:
    classes = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, ForebayError)]
    assert [each.__name__ for each in classes if not each.__doc__] == []


def test_what_may_succeed_later_says_so() -> None:
    retriable = {name for name, each in vars(errors).items() if getattr(each, "retriable", False) is True}
    assert retriable == {"BrokerUnavailable", "DeliveryExpired", "RetryAfter"}


@pytest.mark.parametrize(
    "error",
    [errors.Reject("no"), errors.Reject(errors.Problem("kind", "title")), errors.RetryAfter(2.0, "busy")],
    ids=["reject", "problem", "retry after"],
)
def test_a_handlers_outcome_can_be_carried_by_a_standard_library_future(error: Exception) -> None:
    """An app may run its own process pool, whose errors travel by pickle."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - it was made a line ago
    assert (type(again), str(again)) == (type(error), str(error))
    if isinstance(error, errors.Reject):
        assert again.problem == error.problem
