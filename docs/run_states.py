"""Writes the table of states in `architecture.md`, from `TRANSITIONS` in `t3d_server/runs/live_run.py`.

python docs/run_states.py      (or: make docs)
"""

from __future__ import annotations

from pathlib import Path

from t3d_server.runs.live_run import TRANSITIONS

DOCUMENT = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- states -->\n", "<!-- /states -->\n"
NOTE = "<!-- Written by docs/run_states.py: change TRANSITIONS in runs/live_run.py, then `make docs`. -->\n"
HEAD = ("state", "event", "next state", "what is written", "who is informed")


def table() -> str:
    """Every change of state that there is, as a Markdown table."""
    rows = [
        (str(state), str(event), str(transition.to), transition.writes or "nothing", transition.informs or "nobody")
        for (state, event), transition in TRANSITIONS.items()
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in (HEAD, ["---"] * len(HEAD), *rows))


def with_table(text: str) -> str:
    """The document, its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{NOTE}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text("utf-8")), "utf-8")
