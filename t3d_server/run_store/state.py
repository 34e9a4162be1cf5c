"""What the events of the log add up to: the same for every process that applies the same segments in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from t3d_server.ids import time_of
from t3d_server.models import Model, Run
from t3d_server.run_store.events import (
    Accepted,
    Claimed,
    Ended,
    Event,
    Expired,
    Header,
    Imported,
    Joined,
    Left,
    Leftovers,
    Paged,
    PageInfo,
    Swept,
    Updated,
    Withdrawn,
)
from t3d_server.run_store.key_index import KeyIndex
from t3d_server.run_store.records import (
    Fence,
    FencedError,
    KeyHeldError,
    Member,
    NotOwnedError,
    StaleError,
    StoredRun,
    Sweep,
)

FENCES_KEPT = timedelta(days=30)
"""A process that was suspended for longer may write, and say, what nobody knows of."""


@dataclass
class State:
    """The durable state of all runs.

    Attributes:
        seq: number of the latest segment in it; 0 for none.
        open: runs that have not ended, of all clusters.
        ended: runs that have ended and are in no page yet.
        pages: the directory of pages, by name.
        members: clusters that may write.
        fences: numbers of segments that are kept.
        sweeps: what attempts may have left, by run.
        recent: runs of pages that no snapshot has yet, for readers; in no snapshot.
        paged_keys: idempotency keys of runs in pages; follows from the directory.
        imports: how many pages and runs were taken over from the former layout.
    """

    seq: int = 0
    open: dict[str, StoredRun] = field(default_factory=dict)
    ended: dict[str, StoredRun] = field(default_factory=dict)
    pages: dict[str, PageInfo] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    fences: list[Fence] = field(default_factory=list)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    recent: dict[str, StoredRun] = field(default_factory=dict)
    imports: int = 0
    paged_keys: KeyIndex = field(default_factory=KeyIndex, compare=False)
    _keys: dict[str, str] = field(default_factory=dict)

    def apply(self, header: Header, events: list[Event]) -> list[Exception | None]:
        """Take in the next segment, in one step.

        Args:
            header: who wrote it.
            events: what is in it. One that may not be at this place changes nothing.

        Returns:
            For each event, why it may not be there; None where it may.
        """
        self.seq += 1
        results = [self._apply(header, event) for event in events]
        member = self.members.get(header.cluster)
        if member is not None and member.process == header.process:
            self.members[header.cluster] = member.model_copy(update={"segment": self.seq})
        return results

    def find(self, run_id: str) -> StoredRun | None:
        """A run that is open, or has ended and is in no page that a snapshot has."""
        return self.open.get(run_id) or self.ended.get(run_id) or self.recent.get(run_id)

    def holder(self, key: str) -> StoredRun | None:
        """The run that was accepted with an idempotency key, unless it is in a page."""
        run_id = self._keys.get(key)
        return None if run_id is None else self.find(run_id)

    def removable_to(self) -> int:
        """Up to this number no process writes any more, but for those that are fenced.

        The latest segment of each is kept: who wrote it may not know that, and try again.
        """
        return min([member.segment - 1 for member in self.members.values()], default=self.seq)

    def copy(self) -> State:
        """A copy that does not change with this one; costs no copies of runs."""
        return State(
            self.seq,
            dict(self.open),
            dict(self.ended),
            dict(self.pages),
            dict(self.members),
            list(self.fences),
            dict(self.sweeps),
            dict(self.recent),
            self.imports,
            self.paged_keys,
            dict(self._keys),
        )

    def dump(self) -> bytes:
        """A snapshot: the same bytes whoever makes it. Its first line has all but the runs."""
        summary = _Summary(
            seq=self.seq,
            open=len(self.open),
            pages=list(self.pages.values()),
            members=self.members,
            fences=self.fences,
            sweeps=self.sweeps,
            imports=self.imports,
        )
        # One by one, so that other threads go on meanwhile.
        lines = [summary.model_dump_json()]
        lines += [stored.model_dump_json() for stored in (*self.open.values(), *self.ended.values())]
        return "\n".join(lines).encode()

    @classmethod
    def load(cls, snapshot: bytes) -> State:
        """The state as it was dumped."""
        first, *lines = snapshot.split(b"\n")
        summary = _Summary.model_validate_json(first)
        runs = [StoredRun.model_validate_json(line) for line in lines]
        state = cls(
            seq=summary.seq,
            open={stored.run.id: stored for stored in runs[: summary.open]},
            ended={stored.run.id: stored for stored in runs[summary.open :]},
            pages={page.name: page for page in summary.pages},
            members=summary.members,
            fences=summary.fences,
            sweeps=summary.sweeps,
            imports=summary.imports,
            _keys={stored.key: stored.run.id for stored in runs if stored.key},
        )
        state.paged_keys.update(state.pages)
        return state

    def _apply(self, header: Header, event: Event) -> Exception | None:  # one case an event
        cluster = header.cluster
        member = self.members.get(cluster)
        if isinstance(event, Joined):
            if member is not None:
                self._fence(member, header.time)
            self.members[cluster] = Member(process=header.process, segment=self.seq)
            return None
        if member is None or member.process != header.process:
            return FencedError()
        match event:
            case Left():
                self.members[cluster] = member.model_copy(update={"left": True})
            case Claimed():
                if event.cluster == cluster or event.cluster not in self.members:
                    return StaleError()
                self._fence(self.members.pop(event.cluster), header.time)
                for run_id, stored in self.open.items():
                    if stored.owner == event.cluster:
                        self.open[run_id] = stored.model_copy(update={"owner": cluster})
            case Accepted():
                run_id = event.run.id
                if (held := self._keys.get(event.key)) is not None:
                    return KeyHeldError(held)
                if event.key and self.paged_keys.may_have(event.key):
                    return KeyHeldError("")
                if run_id in self.open or run_id in self.ended:
                    return KeyHeldError(run_id)
                if event.key:
                    self._keys[event.key] = run_id
                self.open[run_id] = StoredRun(
                    run=event.run,
                    owner=cluster,
                    key=event.key,
                    request_sha256=event.request_sha256,
                    lines=event.lines,
                )
            case Withdrawn():
                if not self._owns(cluster, event.run_id):
                    return NotOwnedError()
                self._keys.pop(self.open.pop(event.run_id).key, None)
            case Updated():
                if not self._owns(cluster, event.run.id):
                    return NotOwnedError()
                update = {"run": event.run, **({"log": event.log} if event.log else {})}
                self.open[event.run.id] = self.open[event.run.id].model_copy(update=update)
            case Ended():
                if not self._owns(cluster, event.run.id):
                    return NotOwnedError()
                stored = self.open.pop(event.run.id)
                update = {"run": event.run, "lines": event.lines, "log": event.log}
                self.ended[event.run.id] = stored.model_copy(update=update)
                if event.leftovers:
                    self._leave(event.run, header)
            case Leftovers():
                self._leave(event.run, header)
            case Swept():
                for run_id in event.run_ids:
                    if run_id in self.sweeps and self.sweeps[run_id].since < event.before:
                        del self.sweeps[run_id]
            case Paged():
                return self._page(event)
            case Imported():
                return self._import(cluster, event)
            case Expired():
                for name in event.pages:
                    self.pages.pop(name, None)
                self.paged_keys.update(self.pages)
                for run_id in event.run_ids:
                    if (gone := self.ended.pop(run_id, None)) is not None:
                        self._keys.pop(gone.key, None)
                for run_id in event.logs_of:
                    if run_id in self.ended:
                        self.ended[run_id] = self.ended[run_id].model_copy(update={"lines": [], "log": ""})
        return None

    def _page(self, event: Paged) -> Exception | None:
        """Ended runs move into a page, or from one page into another."""
        if any(run_id not in self.ended for run_id in event.moved):
            return StaleError()
        if event.page.name in self.pages or (event.replaces and event.replaces not in self.pages):
            return StaleError()
        if event.imports is not None:
            if event.imports != self.imports:
                return StaleError()
            self.imports += 1
        self.pages.pop(event.replaces, None)
        for run_id in event.moved:
            stored = self.recent[run_id] = self.ended.pop(run_id)
            self._keys.pop(stored.key, None)
        self.pages[event.page.name] = event.page
        if event.keys_until is not None:
            for name, page in self.pages.items():
                if page.keys and time_of(page.last) < event.keys_until:
                    self.pages[name] = page.model_copy(update={"keys": ""})
        self.paged_keys.update(self.pages)
        return None

    def _import(self, cluster: str, event: Imported) -> Exception | None:
        """A run of the former layout comes."""
        run_id = event.run.id
        if event.number != self.imports or run_id in self.open or run_id in self.ended:
            return StaleError()
        self.imports += 1
        stored = StoredRun(
            run=event.run,
            key="" if event.key in self._keys else event.key,
            request_sha256=event.request_sha256,
            lines=event.lines,
            log=event.log,
        )
        if stored.key:
            self._keys[stored.key] = run_id
        if event.run.status.ended:
            self.ended[run_id] = stored
        else:
            self.open[run_id] = stored.model_copy(update={"owner": cluster})
        return None

    def _owns(self, cluster: str, run_id: str) -> bool:
        stored = self.open.get(run_id)
        return stored is not None and stored.owner == cluster

    def _fence(self, member: Member, time: datetime) -> None:
        kept = [fence for fence in self.fences if time - fence.time < FENCES_KEPT]
        self.fences = [*kept, Fence(first=member.segment, last=self.seq, time=time)]

    def _leave(self, run: Run, header: Header) -> None:
        self.sweeps[run.id] = Sweep(
            owner=header.cluster,
            created_at=run.created_at,
            since=header.time,
            outputs=run.output_dataset_ids,
            replicas=[each.replica for each in run.attempt_history if each.outcome in ("lost", "killed")],
        )


class _Summary(Model):
    """All of a state but the runs, as it is stored.

    Attributes:
        open: how many of the runs that follow are open; the others have ended.
    """

    seq: int
    open: int
    pages: list[PageInfo]
    members: dict[str, Member]
    fences: list[Fence]
    sweeps: dict[str, Sweep]
    imports: int = 0


def directory(snapshot: bytes) -> list[PageInfo]:
    """The directory of pages alone, of a snapshot."""
    return _Summary.model_validate_json(snapshot.partition(b"\n")[0]).pages
