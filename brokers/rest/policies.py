"""Putting, listing, describing and removing policies of queues over REST."""

from __future__ import annotations

from brokers.errors import InvalidName, PolicyNotFound
from brokers.instants import rfc3339
from brokers.models import QueuePolicy
from brokers.queues import policies as domain
from brokers.rest import queue_schemas as schemas
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.queues import given
from brokers.rest.threads import in_thread
from brokers.rest.topics import PageQuery
from brokers.selectors import queue_policies as selector

_DESCRIBE = Access("describe", "server")
_ALTER = Access("alter", "server")


def shown(found: QueuePolicy) -> schemas.Policy:
    """A policy as an answer."""
    return schemas.Policy(
        name=found.name,
        pattern=found.pattern,
        priority=found.priority,
        message_ttl_ms=found.message_ttl_ms,
        expires_ms=found.expires_ms,
        max_length=found.max_length,
        overflow=found.overflow,  # type: ignore[arg-type]  # the database knows no other
        dead_letter_exchange=found.dead_letter_exchange,
        dead_letter_routing_key=found.dead_letter_routing_key,
        delivery_limit=found.delivery_limit,
        created_at=rfc3339(found.created_at) or "",
    )


async def put_policy(call: Call) -> Answer:
    """Makes a policy (201) or replaces the one of that name (200); it holds for its queues at once."""
    body: schemas.PolicyDeclaration = call.body
    name = call.path["policy"]
    created = await in_thread(domain.put_policy, name, actor=call.actor(), **given(body))
    answer = shown(await in_thread(selector.get, name))
    if not created:
        return Answer(200, answer)
    return Answer(201, answer, [(b"location", f"/api/v1/policies/{name}".encode())])


async def get_policies(call: Call) -> Answer:
    """Policies by name."""
    found, following = await in_thread(selector.page, call.query.after, call.query.limit)
    return Answer(body=schemas.PolicyPage(list(map(shown, found)), following))


async def get_policy(call: Call) -> Answer:
    """One policy."""
    return Answer(body=shown(await in_thread(selector.get, call.path["policy"])))


async def delete_policy(call: Call) -> Answer:
    """Removes a policy; its queues are as they were declared, or as another policy says."""
    await in_thread(domain.delete_policy, call.path["policy"], actor=call.actor())
    return Answer(204)


def operations() -> list[Operation]:
    """Declarations of all operations on policies."""
    policy = "/api/v1/policies/{policy}"
    return [
        Operation(
            method="GET",
            path="/api/v1/policies",
            summary="List policies",
            tag="Policies",
            access=(_DESCRIBE,),
            handler=get_policies,
            query=PageQuery,
            answers={200: schemas.PolicyPage},
        ),
        Operation(
            method="PUT",
            path=policy,
            summary="Put a policy",
            tag="Policies",
            access=(_ALTER,),
            handler=put_policy,
            body=schemas.PolicyDeclaration,
            answers={200: schemas.Policy, 201: schemas.Policy},
            problems=(InvalidName,),
            answer_headers=(("Location", "A new policy's path."),),
        ),
        Operation(
            method="GET",
            path=policy,
            summary="Describe a policy",
            tag="Policies",
            access=(_DESCRIBE,),
            handler=get_policy,
            answers={200: schemas.Policy},
            problems=(PolicyNotFound,),
        ),
        Operation(
            method="DELETE",
            path=policy,
            summary="Remove a policy",
            tag="Policies",
            access=(_ALTER,),
            handler=delete_policy,
            answers={204: None},
            problems=(PolicyNotFound,),
        ),
    ]
