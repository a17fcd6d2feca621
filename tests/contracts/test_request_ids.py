"""The grammar of request ids: what is made is parsed, and nothing else is."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_schemas import request_ids


@given(st.from_regex(request_ids.INSTANCE_PATTERN, fullmatch=True), st.uuids())
def test_the_instance_of_an_id_is_the_one_that_made_it(instance: str, identity: uuid.UUID) -> None:
    assert request_ids.instance_of(request_ids.make(instance, identity)) == instance


@given(st.text(max_size=130))
def test_reading_an_id_is_total(text: str) -> None:
    instance = request_ids.instance_of(text)
    assert instance is None or text.startswith(f"{instance}-")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gw",
        "gw-1",
        str(uuid.UUID(int=1)),
        f"-{uuid.UUID(int=1)}",
        f"gw-{uuid.UUID(int=1)}\n",
        f"gw.x-{uuid.UUID(int=1)}",
        f"g\N{LATIN SMALL LETTER E WITH ACUTE}-{uuid.UUID(int=1)}",
        f"{'g' * 81}-{uuid.UUID(int=1)}",
    ],
)
def test_what_is_no_id_names_no_instance(text: str) -> None:
    assert request_ids.instance_of(text) is None
