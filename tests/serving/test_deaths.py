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
The actor is dead because its worker process has died. Worker exit detail: Worker {how}
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
            BY_ITSELF.format(how="exits unexpectedly. Worker exits with an exit code 3."),
            "its process ended by itself, with exit code 3",
            False,
            False,
        ),
        (
            BY_ITSELF.format(how="unexpectedly exits with a connection error code 2. End of file. Some common causes"),
            "its process was killed (perhaps out of memory), crashed in compiled code, or ended itself by os._exit",
            False,
            False,
        ),
        (
            "The deployment failed to start 3 times in a row. Error:\nActorDiedError()",
            "its process was killed (perhaps out of memory), crashed in compiled code, or ended itself by os._exit",
            False,
            False,
        ),
        (
            "Task was killed due to the node running low on memory.\nMemory on the node was 7.6GB.\n",
            "its process was ended by Ray, because the memory of the machine ran out",
            False,
            False,
        ),
        (
            BY_ITSELF.format(how="is a stranger."),
            "The actor is dead because its worker process has died. Worker exit detail: Worker is a stranger.",
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
