from __future__ import annotations

from types import ModuleType

import forebay


def test_an_app_finds_all_that_it_needs_in_one_module() -> None:
    assert sorted(forebay.__all__) == ["DecimalMeta", "Forebay", "Job", "Problem", "Reject", "RetryAfter"]


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    undocumented = [name for name in forebay.__all__ if not getattr(forebay, name).__doc__]

    assert undocumented == []


def test_nothing_else_looks_public() -> None:
    names = {
        name
        for name, value in vars(forebay).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }

    assert names == set(forebay.__all__)
