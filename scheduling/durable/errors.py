"""What durable background work refuses; each error has a stable code."""

from __future__ import annotations

from brokers.errors import BrokerError, Conflict, InvalidValue, NotFound, TooLarge


class InvalidArguments(InvalidValue):
    """An argument that JSON cannot hold, or that the function does not take."""

    code = "invalid_arguments"


class ArgumentsTooLarge(TooLarge):
    """The arguments of a call are longer than 256 KiB of JSON."""

    code = "arguments_too_large"


class CallNotFound(NotFound):
    """No call of that id: it was never committed, or ended so long ago that it is forgotten."""

    code = "call_not_found"


class CallNotCommitted(Conflict):
    """The call is part of a transaction that has not committed: until then it cannot end."""

    code = "call_not_committed"


class CallNotEnded(BrokerError, TimeoutError):
    """The call has not ended within the time that its caller waited; it goes on."""

    code = "call_not_ended"
    retryable = True


class CallFailed(BrokerError):
    """The call was given up, and is a dead letter."""

    code = "call_failed"


class ResultNotKept(BrokerError):
    """The function has succeeded, and what it answered could not be stored."""

    code = "result_not_kept"


class FunctionNotFound(NotFound):
    """The worker has no durable background function of that name: its release is older or newer than the caller's."""

    code = "function_not_found"
