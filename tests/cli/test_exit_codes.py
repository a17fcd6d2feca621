from __future__ import annotations

import pytest

from forebay import errors
from forebay_cli import exit_codes


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        ([errors.BrokerUnavailable("no answer")], exit_codes.UNAVAILABLE),
        ([errors.BrokerUnavailable("no answer"), errors.BrokerError("it refuses")], exit_codes.FAILED),
        ([errors.ConfigurationError("a setting")], exit_codes.USAGE),
        ([errors.AccessRefused("credentials")], exit_codes.USAGE),
        ([errors.AuthorizationFailed("topic", "forebay.catalog", "Read")], exit_codes.USAGE),
        ([errors.GroupRefused("its session_timeout is out of bounds")], exit_codes.USAGE),
        ([errors.TopicMismatch("fewer partitions")], exit_codes.USAGE),
        ([errors.BrokerStartError("no Java")], exit_codes.USAGE),
        ([errors.BrokerUnavailable("no answer"), errors.ConfigurationError("a setting")], exit_codes.USAGE),
    ],
)
def test_the_exit_code_says_whether_the_same_may_work_later(failures: list[Exception], code: int) -> None:
    assert exit_codes.of(failures) == code
