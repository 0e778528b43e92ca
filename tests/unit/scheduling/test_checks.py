"""System checks of declarations that cannot work."""

from __future__ import annotations

import pytest

from brokers.errors import InvalidType, InvalidValue
from brokers.retries.backoff import FixedBackOff
from scheduling import Executor, background
from scheduling.checks import executors_are_declared
from scheduling.durable import declared
from scheduling.executors import background as backgrounds
from scheduling.executors import registry


@pytest.fixture(autouse=True)
def _nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_definitions", {})
    monkeypatch.setattr(backgrounds, "_named", {})
    monkeypatch.setattr(declared, "_declared", {})


def email(address: str) -> None:
    """What runs in the background."""


def other(address: str) -> None:
    """The same, elsewhere."""


def test_an_executor_that_is_not_declared_is_named_at_the_start() -> None:
    background(executor="emails")(email)
    background(email)
    (error,) = executors_are_declared(None)
    assert error.id == "scheduling.E001"
    assert "'emails'" in error.msg
    assert f"{__name__}.email" in error.msg
    Executor("emails", core=2)
    assert executors_are_declared(None) == []


def test_options_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InvalidValue, match="executor"):
        background(durable=True, executor="emails")  # type: ignore[call-overload]
    with pytest.raises(InvalidValue, match="durable=True"):
        background(retry=FixedBackOff())  # type: ignore[call-overload]
    with pytest.raises(InvalidType, match="exception"):
        background(durable=True, not_retryable=("ValueError",))  # type: ignore[call-overload]
    with pytest.raises(InvalidValue, match="timeout"):
        background(durable=True, timeout=0)
    with pytest.raises(InvalidType, match="decorates a function"):
        background(durable=True)(print)


def test_a_durable_functions_name_is_its_own() -> None:
    assert background(durable=True)(email).name == f"{__name__}.email"
    with pytest.raises(InvalidValue, match="two durable functions"):
        background(durable=True, name=f"{__name__}.email")(other)
    with pytest.raises(InvalidValue, match="1 to 200"):
        background(durable=True, name="x" * 201)(email)
