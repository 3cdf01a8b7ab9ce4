"""Who listens to what, and the fan-out: one encoding per topic and view, the same bytes for every listener.

No Tornado, no MongoDB, no await: everything here happens in one step of the event loop, hence without locks. A
subscription is *joining* while somebody reads its snapshot (`app.joining`) and collects what happens meanwhile; it is
*live* from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from app.permissions import Identity, project_role
from app.position import Position
from app.protocol import CloseCode, Events, Frame, Live, Reset, push, unsubscribed
from app.record import ProjectChange, Record
from app.topics import PROJECTS, is_project, key_of, project_key, topic_of
from models.errors import NotFound, Refusal
from models.project import ProjectAccess

FRAME_BYTES = 256 * 1024
"""A frame of events is closed once it holds this much, so that one burst does not make one giant message."""

PlacedEvent = tuple[Position, bytes]
"""An encoded event and where a client is once it has it."""

GONE = "There is no such project any more, or you may not see it."


class Subscriber(Protocol):
    """One connection. Neither method may block or raise, even for a dead peer."""

    def send(self, frame: Frame) -> None: ...

    def leave(self, code: CloseCode) -> None: ...


class Subscription:
    """One connection's interest in one topic."""

    __slots__ = (
        "buffer",
        "buffered_bytes",
        "ended",
        "identity",
        "joined_at",
        "key",
        "lost",
        "on_reset",
        "state",
        "subscriber",
        "topic",
    )

    def __init__(
        self,
        subscriber: Subscriber,
        topic: str,
        identity: Identity,
        joined_at: Position,
        on_reset: Callable[[Subscription, str], None],
    ) -> None:
        self.subscriber, self.topic, self.identity = subscriber, topic, identity
        self.key = key_of(topic, identity.user_id)
        """By which events are routed here; what the listener calls them is `topic`."""
        self.joined_at = joined_at
        """What the hub had published when this joined: nothing after it can be missed."""
        self.on_reset = on_reset
        self.state: Literal["joining", "live", "left"] = "joining"
        self.buffer: list[Record] = []
        self.buffered_bytes = 0
        self.ended = False
        """While joining: the caller's right to the topic was taken (again) since; the right must be checked anew."""
        self.lost: str | None = None
        """While joining: why what was read and collected so far may have a gap; everything must be read anew."""

    @property
    def has_left(self) -> bool:
        """Whether nobody is interested any more."""
        return self.state == "left"


class _Channel:
    """The listeners of one key."""

    __slots__ = ("joining", "live", "seq")

    def __init__(self) -> None:
        self.live: dict[Subscriber, Subscription] = {}
        self.joining: set[Subscription] = set()
        self.seq = 0


class _Milestones:
    """Who waits for which clusterTime."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[tuple[int, int], Callable[[], None]]] = []

    def add(self, time: tuple[int, int], callback: Callable[[], None]) -> None:
        self._waiting.append((time, callback))

    def drop(self, callback: Callable[[], None]) -> None:
        self._waiting = [entry for entry in self._waiting if entry[1] is not callback]

    def reach(self, reached: tuple[int, int]) -> None:
        if not self._waiting:
            return
        ready = [callback for time, callback in self._waiting if time <= reached]
        self._waiting = [entry for entry in self._waiting if entry[0] > reached]
        for callback in ready:
            callback()


class Hub:
    """Every subscription of the process."""

    def __init__(self, *, encode: Callable[[Position], str], max_buffered_bytes: int = 1024 * 1024) -> None:
        """`encode` makes a position public. A joining subscription that collects more than the bound is given up."""
        self._encode, self._max_buffered_bytes = encode, max_buffered_bytes
        self._channels: dict[str, _Channel] = {}
        self._all_projects: set[Subscription] = set()
        self._projects_by_principal: dict[str, set[Subscription]] = {}
        self._passing, self._settling = _Milestones(), _Milestones()
        self.position = Position(0, 0)
        """Everything up to here was published."""
        self.settled = (0, 0)
        """Nothing more about a project will be published of this clusterTime or an earlier one."""
        self.deliveries = 0
        """Events sent, counted once per listener."""

    # -- coming and going ---------------------------------------------------------------------------------------------

    def join(
        self,
        subscriber: Subscriber,
        topic: str,
        identity: Identity,
        on_reset: Callable[[Subscription, str], None],
    ) -> Subscription:
        """Start collecting what happens on a topic. `on_reset` is told to read the topic's snapshot again."""
        subscription = Subscription(subscriber, topic, identity, self.position, on_reset)
        self._channels.setdefault(subscription.key, _Channel()).joining.add(subscription)
        return subscription

    def rejoin(self, subscription: Subscription) -> None:
        """Start collecting anew, forgetting what was collected."""
        channel = self._channels.setdefault(subscription.key, _Channel())
        self._remove(channel, subscription)
        subscription.state = "joining"
        subscription.buffer, subscription.buffered_bytes = [], 0
        subscription.ended, subscription.lost = False, None
        subscription.joined_at = self.position
        channel.joining.add(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription, in whichever state; fine when it left before."""
        channel = self._channels.get(subscription.key)
        subscription.state = "left"
        subscription.buffer = []
        if channel is None:
            return
        self._remove(channel, subscription)
        if not channel.live and not channel.joining:
            del self._channels[subscription.key]

    def go_live(self, subscription: Subscription, since: Position) -> None:
        """Send what was collected after `since`, then `live`; from here on the subscription gets the shared frames."""
        if subscription.lost is not None:
            self._start_again(subscription, subscription.lost)
            return
        self.replay(subscription, self._collected(subscription, since), self.position)
        if subscription.has_left:  # who does not keep up is closed while we send
            return
        position = self._encode(self.position)
        channel = self._channels[subscription.key]
        channel.joining.discard(subscription)
        subscription.buffer, subscription.buffered_bytes = [], 0
        subscription.state = "live"
        channel.live[subscription.subscriber] = subscription
        if subscription.topic == PROJECTS:
            self._index(subscription)
        seq = channel.seq if is_project(subscription.key) else UNSET
        subscription.subscriber.send(push(Live(topic=subscription.topic, position=position, seq=seq)))

    def replay(self, subscription: Subscription, events: list[PlacedEvent], end: Position) -> None:
        """Send one listener what it has to catch up with; `end` is where that leads."""
        for chunk, position in _chunks(events, end):
            subscription.subscriber.send(self._frame(subscription.topic, chunk, position))
            self.deliveries += len(chunk)

    def _frame(self, topic: str, chunk: list[msgspec.Raw], position: Position, seq: int | UnsetType = UNSET) -> Frame:
        return push(Events(topic=topic, position=self._encode(position), events=chunk, seq=seq))

    def _collected(self, subscription: Subscription, since: Position) -> list[PlacedEvent]:
        events: list[PlacedEvent] = []
        for record in subscription.buffer:
            if record.position <= since:
                continue
            if subscription.topic == PROJECTS:
                event = record.project.for_listener(subscription.identity) if record.project else None
                if event is not None:
                    events.append((record.position, event))
            else:
                events.extend((record.position, part) for key, part in record.parts if key == subscription.key)
        return events

    # -- what the feed brings -----------------------------------------------------------------------------------------

    def publish(self, records: Iterable[Record], position: Position) -> None:
        """Tell everyone concerned. `position` is where the feed is after the last record."""
        pending: dict[str, list[PlacedEvent]] = {}
        for record in records:
            keys = {key for key, _ in record.parts}
            if record.project is not None:
                keys.add(project_key(record.project.id))
                keys.add(PROJECTS)
            for key in keys:
                for subscription in self._joining(key):
                    self._collect(subscription, record)
            if record.project is not None and record.project.changes_access:
                # Those who lose the project get what came before, and nothing from this change on.
                key = project_key(record.project.id)
                self._flush(key, pending.pop(key, []), self.position)
                self._apply_access(key, record.project.after)
            for key, part in record.parts:
                if key in self._channels:
                    pending.setdefault(key, []).append((record.position, part))
            if record.project is not None and PROJECTS in self._channels:
                self._publish_project(record.project, record.position)
            self.position = max(self.position, record.position)
        self.position = max(self.position, position)
        for key, events in pending.items():
            self._flush(key, events, self.position)
        self._tell_passed()

    def advance(self, position: Position) -> None:
        """The feed heard that nothing happened up to `position`."""
        if position > self.position:
            self.position = position
            self._tell_passed()

    def _joining(self, key: str) -> tuple[Subscription, ...]:
        channel = self._channels.get(key)
        return tuple(channel.joining) if channel is not None and channel.joining else ()

    def _collect(self, subscription: Subscription, record: Record) -> None:
        subscription.buffer.append(record)
        subscription.buffered_bytes += record.size + 100
        if record.project is not None and subscription.topic != PROJECTS and record.project.changes_access:
            after = record.project.after
            subscription.ended = after is None or project_role(subscription.identity, after) is None

    def is_overfull(self, subscription: Subscription) -> bool:
        """Whether a joining subscription collected more than it may."""
        return subscription.buffered_bytes > self._max_buffered_bytes

    def _flush(self, key: str, events: list[PlacedEvent], end: Position) -> None:
        """One frame for all live listeners of a key."""
        channel = self._channels.get(key)
        if channel is None or not channel.live:
            return
        for chunk, position in _chunks(events, end):
            channel.seq += 1
            frame = self._frame(topic_of(key), chunk, position, channel.seq if is_project(key) else UNSET)
            for subscriber in tuple(channel.live):
                subscriber.send(frame)
            self.deliveries += len(chunk) * len(channel.live)

    def _publish_project(self, change: ProjectChange, position: Position) -> None:
        """The topic `projects`: update for who saw it and sees it, enter and leave for the others."""
        saw = self._audience(change.before)
        sees = saw if change.after == change.before else self._audience(change.after)
        for listeners, before, after in (
            (saw & sees if saw is not sees else saw, True, True),
            (sees - saw if saw is not sees else (), False, True),
            (saw - sees if saw is not sees else (), True, False),
        ):
            if not listeners:
                continue
            event = change.encoded(before=before, after=after)
            if event is None:
                continue
            frame = self._frame(PROJECTS, [msgspec.Raw(event)], position)
            for subscription in tuple(listeners):
                subscription.subscriber.send(frame)
            self.deliveries += len(listeners)

    # -- rights -------------------------------------------------------------------------------------------------------

    def _audience(self, access: ProjectAccess | None) -> set[Subscription]:
        """The live listeners of `projects` who may see a project; found by its members, not by asking everyone."""
        if access is None:
            return set()
        if access.visibility == "public":
            return self._all_projects
        listeners = set(self._projects_by_principal.get("*", ()))
        for member in access.members:
            listeners |= self._projects_by_principal.get(member.principal, set())
        return listeners

    def _index(self, subscription: Subscription) -> None:
        self._all_projects.add(subscription)
        for principal in _principals(subscription.identity):
            self._projects_by_principal.setdefault(principal, set()).add(subscription)

    def _unindex(self, subscription: Subscription) -> None:
        self._all_projects.discard(subscription)
        for principal in _principals(subscription.identity):
            listeners = self._projects_by_principal.get(principal)
            if listeners is not None:
                listeners.discard(subscription)
                if not listeners:
                    del self._projects_by_principal[principal]

    def _apply_access(self, key: str, access: ProjectAccess | None) -> None:
        """Cut off everyone who may not see the project any more."""
        channel = self._channels.get(key)
        if channel is None:
            return
        for subscription in tuple(channel.live.values()):
            if access is None or project_role(subscription.identity, access) is None:
                self.end(subscription, NotFound(GONE))

    def end(self, subscription: Subscription, refusal: Refusal) -> None:
        """Take a topic from a listener and say why."""
        self.leave(subscription)
        subscription.subscriber.send(push(unsubscribed(subscription.topic, refusal)))

    # -- losing the thread --------------------------------------------------------------------------------------------

    def reset(self, reason: str, keys: Callable[[str], bool] = lambda _key: True) -> None:
        """What listeners know may have a gap: each is told to drop it, and reads a snapshot anew."""
        for key, channel in tuple(self._channels.items()):
            if not keys(key):
                continue
            for subscription in tuple(channel.joining):
                subscription.lost = reason
            for subscription in tuple(channel.live.values()):
                self._start_again(subscription, reason)

    def _start_again(self, subscription: Subscription, reason: str) -> None:
        self.rejoin(subscription)
        subscription.subscriber.send(push(Reset(topic=subscription.topic, reason=reason)))
        subscription.on_reset(subscription, reason)

    # -- waiting for the feed -----------------------------------------------------------------------------------------

    def when_passed(self, time: tuple[int, int], callback: Callable[[], None]) -> None:
        """Call back once something up to this clusterTime was published, and all before it; at once where it was."""
        if self.position.time >= time:
            callback()
        else:
            self._passing.add(time, callback)

    def settle(self, time: tuple[int, int]) -> None:
        """The feed has brought all there is about projects up to and of this clusterTime."""
        if time > self.settled:
            self.settled = time
            self._settling.reach(time)

    def when_settled(self, time: tuple[int, int], callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once `settled` is there, at once where it is. What is returned takes the wish back."""
        if self.settled >= time:
            callback()
        else:
            self._settling.add(time, callback)
        return lambda: self._settling.drop(callback)

    def _tell_passed(self) -> None:
        self._passing.reach(self.position.time)

    def _remove(self, channel: _Channel, subscription: Subscription) -> None:
        channel.joining.discard(subscription)
        if channel.live.get(subscription.subscriber) is subscription:
            del channel.live[subscription.subscriber]
            if subscription.topic == PROJECTS:
                self._unindex(subscription)

    # -- for the operator ---------------------------------------------------------------------------------------------

    @property
    def topics(self) -> int:
        """Topics that somebody listens to; each user's inbox is one."""
        return len(self._channels)

    @property
    def subscriptions(self) -> int:
        """Subscriptions in any state."""
        return sum(len(channel.live) + len(channel.joining) for channel in self._channels.values())


def _principals(identity: Identity) -> list[str]:
    """Under which names of a project's members this caller is meant; `*` stands for those who see everything."""
    named = [f"user:{identity.user_id}", *(f"role:{group}" for group in identity.groups)]
    return ["*", *named] if identity.sees_everything else named


def _chunks(events: list[PlacedEvent], end: Position) -> Iterable[tuple[list[msgspec.Raw], Position]]:
    """Events in frames of bounded size, each with the position that a client has reached with it.

    Only the last frame leads to `end`: who is cut off before it must come back for the rest.
    """
    frames = list(portions(events))
    for number, portion in enumerate(frames, 1):
        yield [msgspec.Raw(event) for _, event in portion], end if number == len(frames) else portion[-1][0]


def portions(events: Iterable[PlacedEvent]) -> Iterator[list[PlacedEvent]]:
    """Events in lists of about `FRAME_BYTES`, as much as one frame takes."""
    portion: list[PlacedEvent] = []
    size = 0
    for event in events:
        portion.append(event)
        size += len(event[1])
        if size >= FRAME_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
