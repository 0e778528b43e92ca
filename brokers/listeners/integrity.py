"""What a handler must leave as it found it: the listener's connection and its open transaction."""

from __future__ import annotations

from typing import Final

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from brokers.errors import Unavailable
from brokers.listeners.savepoints import Savepoints
from brokers.listeners.work import HandlerBrokeTransaction, TransactionConflict

CLAIM_LOST: Final = "WS409"
"""SQLSTATE of `brokers_group_settle` for a claim that is over."""
_CONFLICTS: Final = frozenset({"40001", "40P01", "55P03", "57014"})
"""Serialization failure, deadlock, lock not available, query cancelled."""
_CHAIN: Final = 10
_INERROR, _IDLE = TransactionStatus.INERROR, TransactionStatus.IDLE
_GOOD = (TransactionStatus.IDLE, TransactionStatus.INTRANS)


def is_suspicious(connection: BaseDatabaseWrapper) -> bool:
    """Whether a handler that sent no query through Django has done something to its connection all the same."""
    return (
        connection.closed_in_transaction
        or connection.needs_rollback
        or bool(connection.savepoint_ids)
        or connection.connection.pgconn.transaction_status not in _GOOD
    )


def broken(connection: BaseDatabaseWrapper, savepoints: Savepoints) -> HandlerBrokeTransaction | None:
    """What is wrong after a handler has returned, if anything. Raises `Unavailable` when the connection is lost."""
    raw = connection.connection
    if connection.closed_in_transaction:
        return HandlerBrokeTransaction("the handler closed the listener's database connection")
    if raw is None or raw.closed:
        raise lost()
    if connection.savepoint_ids or len(connection.atomic_blocks) != 1:
        return HandlerBrokeTransaction("the handler left a block of transaction.atomic() open")
    if connection.needs_rollback:
        return HandlerBrokeTransaction("the handler marked the listener's transaction for a rollback and returned")
    status = raw.pgconn.transaction_status
    if status == _INERROR:
        return HandlerBrokeTransaction("the handler went on after a database error that aborted the transaction")
    if status == _IDLE and savepoints.is_open:
        return HandlerBrokeTransaction("the handler ended the listener's transaction by a statement of its own")
    return None


def repair(connection: BaseDatabaseWrapper) -> None:
    """Forgets blocks that a handler left open; the database's side is undone by the record's savepoint."""
    connection.savepoint_ids.clear()
    del connection.atomic_blocks[1:]


def is_lost(connection: BaseDatabaseWrapper) -> bool:
    """Whether the connection has failed, other than by the handler's closing it."""
    raw = connection.connection
    return not connection.closed_in_transaction and (raw is None or raw.closed)


def lost() -> Unavailable:
    """The error of a connection that was lost while a handler ran."""
    return Unavailable("the connection to the database was lost")


def state_of(error: BaseException) -> str | None:
    """The SQLSTATE of an error, or of what caused it."""
    looked: BaseException | None = error
    for _ in range(_CHAIN):
        if looked is None:
            break
        if isinstance(looked, psycopg.Error) and looked.sqlstate is not None:
            return looked.sqlstate
        looked = looked.__cause__
    return None


def is_conflict(error: BaseException) -> bool:
    """Whether other transactions were in the way, so that the same again may succeed."""
    return state_of(error) in _CONFLICTS


def refuse_faults_of_others(connection: BaseDatabaseWrapper, error: BaseException, may_conflict: bool) -> None:
    """Raises where a record failed through no fault of its own: `Unavailable`, or `TransactionConflict`."""
    if is_lost(connection):
        raise lost() from error
    if may_conflict and is_conflict(error):
        raise TransactionConflict from error
