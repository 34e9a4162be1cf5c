"""What is taken from Ray's words about replicas that have ended."""

from __future__ import annotations

import pytest

from t3d_server.serving.deaths import cause, was_by_node, was_wanted

BY_NODE = """ActorDiedError: The actor died unexpectedly before finishing this task.
\tclass_name: ServeReplica:blur-1.0.0:cpu
\tip: 127.0.0.3
The actor died because its node has died. Node Id: 265b
\tthe actor's node was terminated {how}
The actor never ran - it was cancelled before it started running.
"""
BY_ITSELF = """The deployment failed to start 3 times in a row. See controller logs for details. Error:
Traceback (most recent call last):
  File "deployment_state.py", line 1426, in check_ready
    ) = ray.get(self._allocated_obj_ref)
ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
\tclass_name: ServeReplica:blur-1.0.0:cpu
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR
"""


@pytest.mark.parametrize(
    ("told", "sentence", "by_node", "wanted"),
    [
        (
            BY_NODE.format(how="unexpectedly: health check failed"),
            "The actor died because its node has died. Node Id: 265b",
            True,
            False,
        ),
        (
            BY_NODE.format(how="expectedly: received SIGTERM"),
            "The actor died because its node has died. Node Id: 265b",
            True,
            True,
        ),
        (
            BY_ITSELF,
            "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR",
            False,
            False,
        ),
        ("The actor is unavailable: Socket closed", "The actor is unavailable: Socket closed", False, False),
        ("", "", False, False),
    ],
)
def test_the_cause_is_a_line_and_a_node_is_told_from_a_process(
    told: str, sentence: str, by_node: bool, wanted: bool
) -> None:
    assert (cause(told), was_by_node(told), was_wanted(told)) == (sentence, by_node, wanted)
