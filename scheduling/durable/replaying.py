"""Dead letters of durable calls that are replayed: called anew, each in a run that knows its dead letter.

Registered with `brokers.replays.tasks` when the app is ready. How such a run ends settles the replay's item.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from brokers import task_calls
from brokers.errors import BrokerError
from brokers.replays.tasks import Call
from scheduling.durable import calls, store
from scheduling.durable.current import MAX_WHO
from scheduling.durable.store import Again


def give_back(letters: Sequence[Call]) -> dict[int, str]:
    """Calls the functions anew, in the order given and in the caller's transaction; answers what cannot be, with why.

    Whether a worker knows the function shows when one tries.
    """
    made: list[Again] = []
    refused: dict[int, str] = {}
    for letter in letters:
        try:
            args, kwargs = task_calls.arguments(letter.value, letter.encoding)
        except BrokerError:
            refused[letter.item_id] = task_calls.INVALID
            continue
        who = f"replay {letter.replay_id} of {letter.created_by}"[:MAX_WHO]
        text = json.dumps([args, kwargs])
        made.append(Again(letter.task, text, who, letter.dead_letter_id, letter.item_id, letter.revision))
    if made:
        calls.ring_after_commit(store.submit_again(made))
    return refused
