"""A Redis in memory, as far as the loop, its recovery and its checkpoints use one; `test_fake_redis.py` compares.

It reads requests and writes replies as bytes, so the real connection speaks to it, and it can be cut at any of them.
Time is what `now_ms` says. Faults are told by `refusal`, the word of which it answers to what it then cannot do.
"""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import hiredis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Id: TypeAlias = tuple[int, int]
HEAD: Id = (0, 0)
NODE_ENTRIES = 100  # `XTRIM ~` drops whole nodes of so many
TOP_ID = (1 << 64) - 1

WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SMALLER = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
NO_KEY = "ERR no such key"
NEEDS_KEY = (
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM "
    "option to create an empty stream automatically."
)
REFUSALS = {
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
}
WRITES = {b"DEL", b"HSET", b"HSETNX", b"PEXPIRE", b"RENAME", b"SADD", b"SET", b"SREM", b"UNLINK", b"XADD", b"XGROUP"}
WRITES |= {b"HDEL", b"XTRIM"}
GROWING = {b"HSET", b"HSETNX", b"SADD", b"SET", b"XADD"}  # with `XGROUP CREATE`: what OOM forbids


class Refused(Exception):
    """An error reply."""


@dataclass(slots=True)
class Group:
    position: Id
    read: int | None


@dataclass(slots=True)
class Stream:
    ids: list[Id] = field(default_factory=list)
    rows: list[list[bytes]] = field(default_factory=list)
    top: Id = HEAD
    added: int = 0
    deleted: Id = HEAD
    groups: dict[bytes, Group] = field(default_factory=dict)


class Session:
    """What the server knows of one connection."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.queue: list[list[bytes]] | None = None
        self.is_dirty = False
        self.watched: dict[bytes, int] = {}
        self.waiting: tuple[list[bytes], int] | None = None  # an XREAD and until when, in ms; 0 for ever
        self.unread: list[list[bytes]] = []


class FakeRedis:
    """One server, one database."""

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self.now_ms = now_ms
        self.keys: dict[bytes, Any] = {}
        self.expiry: dict[bytes, float] = {}
        self.versions: dict[bytes, int] = {}
        self.refusal = ""
        self.commands = 0
        self.on_write: Callable[[Session | None, list[bytes]], None] = lambda *_: None

    # Bytes in, bytes out.

    def feed(self, session: Session, request: bytes) -> bytes:
        """Carry out every command that is whole; the replies."""
        session.reader.feed(request)
        while (command := session.reader.gets()) is not False:
            session.unread.append(command)
        return self.go_on(session)

    def go_on(self, session: Session) -> bytes:
        """Answer what waits to be answered, up to an XREAD that blocks."""
        out = bytearray()
        while True:
            if session.waiting is not None:
                reply = self._end_wait(session)
                if reply is None:
                    break
                out += reply
            if not session.unread:
                break
            answer = self._answer(session, session.unread.pop(0))
            if answer is not None:
                out += answer
        return bytes(out)

    def wakes_at(self, session: Session) -> float | None:
        """When a blocked session's wait ends at the latest, ms."""
        return session.waiting[1] if session.waiting else None

    def _end_wait(self, session: Session) -> bytes | None:
        assert session.waiting is not None
        command, until_ms = session.waiting
        try:
            found = self._read_streams(command)
        except Refused as error:
            found = error
        if found is None and self.now_ms() < until_ms:
            return None
        session.waiting = None
        return encode(found)

    def _answer(self, session: Session, command: list[bytes]) -> bytes | None:  # noqa: PLR0911  as many as kinds of answers
        self.commands += 1
        name = command[0].upper()
        try:
            if name == b"MULTI":
                session.queue, session.is_dirty = [], False
                return b"+OK\r\n"
            if name == b"EXEC":
                return self._exec(session)
            if session.queue is not None and name not in {b"WATCH", b"UNWATCH"}:
                self._check_refusal(command, is_queued=True)
                session.queue.append(command)
                return b"+QUEUED\r\n"
            if name == b"WATCH":
                self._purge()
                for key in command[1:]:
                    session.watched.setdefault(key, self.versions.get(key, 0))
                return b"+OK\r\n"
            if name == b"UNWATCH":
                session.watched.clear()
                return b"+OK\r\n"
            self._check_refusal(command)
            if name == b"XREAD":
                return self._xread(session, command)
            return encode(self._carry_out(session, command))
        except Refused as error:
            session.is_dirty = True
            return encode(error)

    def _xread(self, session: Session, command: list[bytes]) -> bytes | None:
        found = self._read_streams(command)
        options = [word.upper() for word in command[: command.index(b"STREAMS")]]
        if found is None and b"BLOCK" in options:
            block_ms = int(command[options.index(b"BLOCK") + 1])
            session.waiting = command, int(self.now_ms()) + block_ms
            return None
        return encode(found)

    def _exec(self, session: Session) -> bytes:
        queue, is_dirty, session.queue = session.queue, session.is_dirty, None
        if queue is None:
            return encode(Refused("ERR EXEC without MULTI"))
        watched, session.watched = session.watched, {}
        if is_dirty:
            return encode(Refused("EXECABORT Transaction discarded because of previous errors."))
        try:
            for command in queue:
                self._check_refusal(command)
        except Refused as error:
            return encode(Refused(f"EXECABORT Transaction discarded because of: {error}"))
        self._purge()
        if any(self.versions.get(key, 0) != version for key, version in watched.items()):
            return b"*-1\r\n"
        replies = []
        for command in queue:
            try:
                replies.append(encode(self._carry_out(session, command)))
            except Refused as error:
                replies.append(encode(error))
        return b"*%d\r\n%b" % (len(replies), b"".join(replies))

    def _check_refusal(self, command: list[bytes], *, is_queued: bool = False) -> None:
        word, name = self.refusal, command[0].upper()
        if word in {"LOADING", "BUSY"}:
            raise Refused(REFUSALS[word])
        writes = name in WRITES
        if word == "OOM":
            writes = is_queued or name in GROWING or (name == b"XGROUP" and command[1].upper() == b"CREATE")
        if word and writes:
            raise Refused(REFUSALS[word])

    # Keys.

    def call(self, *words: Any) -> Any:
        """A command of somebody who is neither disturbed nor refused."""
        command = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return self._carry_out(None, command)

    def image(self) -> Any:
        """A copy of everything, to go back to."""
        return copy.deepcopy((self.keys, self.expiry))

    def go_back(self, image: Any) -> None:
        """Become what the copy was; nobody's WATCH outlives it, for the server was started again."""
        self.keys, self.expiry = copy.deepcopy(image)

    def touch(self, key: bytes) -> None:
        self.versions[key] = self.versions.get(key, 0) + 1

    def _purge(self) -> None:
        """Expired keys go, as if each had been looked at."""
        now = self.now_ms()
        for key in [key for key, at in self.expiry.items() if at <= now]:
            del self.expiry[key]
            if self.keys.pop(key, None) is not None:
                self.touch(key)

    def _carry_out(self, session: Session | None, command: list[bytes]) -> Any:
        self._purge()
        name = command[0].upper()
        act = getattr(self, f"_do_{name.decode().lower()}", None)
        if act is None:
            raise Refused(f"ERR unknown command '{name.decode()}'")
        if name in WRITES:
            self.on_write(session, command)
        return act(*command[1:])

    def _get(self, key: bytes, kind: type) -> Any:
        found = self.keys.get(key)
        if found is not None and not isinstance(found, kind):
            raise Refused(WRONGTYPE)
        return found

    def _remove(self, key: bytes) -> int:
        self.expiry.pop(key, None)
        if self.keys.pop(key, None) is None:
            return 0
        self.touch(key)
        return 1

    # Strings, hashes, sets.

    def _do_ping(self) -> Any:
        return Status("PONG")

    def _do_time(self) -> Any:
        seconds, ms = divmod(int(self.now_ms()), 1000)
        return [b"%d" % seconds, b"%d" % (ms * 1000)]

    def _do_get(self, key: bytes) -> Any:
        return self._get(key, bytes)

    def _do_getrange(self, key: bytes, begin: bytes, end: bytes) -> Any:
        return (self._get(key, bytes) or b"")[int(begin) : int(end) + 1]

    def _do_set(self, key: bytes, text: bytes, *options: bytes) -> Any:
        words = [option.upper() for option in options]
        if b"NX" in words and key in self.keys:
            return None
        self.keys[key] = text
        self.expiry.pop(key, None)
        if b"PX" in words:
            self.expiry[key] = self.now_ms() + int(words[words.index(b"PX") + 1])
        self.touch(key)
        return Status("OK")

    def _do_pexpire(self, key: bytes, ttl_ms: bytes) -> Any:
        if key not in self.keys:
            return 0
        self.expiry[key] = self.now_ms() + int(ttl_ms)
        self.touch(key)
        return 1

    def _do_del(self, *keys: bytes) -> Any:
        return sum(self._remove(key) for key in keys)

    _do_unlink = _do_del

    def _do_exists(self, *keys: bytes) -> Any:
        return sum(key in self.keys for key in keys)

    def _do_rename(self, key: bytes, name: bytes) -> Any:
        if key not in self.keys:
            raise Refused(NO_KEY)
        if key == name:
            return Status("OK")
        moved, at = self.keys[key], self.expiry.get(key)
        self._remove(key)
        self._remove(name)
        self.keys[name] = moved
        if at is not None:
            self.expiry[name] = at
        self.touch(name)
        return Status("OK")

    def _do_hset(self, key: bytes, *pairs: bytes) -> Any:
        found = self._get(key, dict)
        if found is None:
            found = self.keys[key] = {}
        before = len(found)
        found.update(zip(pairs[::2], pairs[1::2], strict=True))
        self.touch(key)
        return len(found) - before

    def _do_hsetnx(self, key: bytes, name: bytes, text: bytes) -> Any:
        found = self._get(key, dict)
        return 0 if found is not None and name in found else self._do_hset(key, name, text)

    def _do_hget(self, key: bytes, name: bytes) -> Any:
        return (self._get(key, dict) or {}).get(name)

    def _do_hgetall(self, key: bytes) -> Any:
        return [part for pair in (self._get(key, dict) or {}).items() for part in pair]

    def _do_hdel(self, key: bytes, *names: bytes) -> Any:
        found = self._get(key, dict) or {}
        gone = [found.pop(name) for name in set(names) if name in found]
        if gone:
            self.touch(key)
        if gone and not found:
            del self.keys[key]
        return len(gone)

    def _do_sadd(self, key: bytes, *members: bytes) -> Any:
        found = self._get(key, set)
        if found is None:
            found = self.keys[key] = set()
        before = len(found)
        found.update(members)
        if len(found) > before:
            self.touch(key)
        return len(found) - before

    def _do_srem(self, key: bytes, *members: bytes) -> Any:
        found = self._get(key, set) or set()
        gone = found & set(members)
        found -= gone
        if gone:
            self.touch(key)
        if gone and not found:
            del self.keys[key]
        return len(gone)

    def _do_smembers(self, key: bytes) -> Any:
        return sorted(self._get(key, set) or ())

    # Streams.

    def _stream(self, key: bytes, *, make: bool = False) -> Stream | None:
        found: Stream | None = self._get(key, Stream)
        if found is None and make:
            found = self.keys[key] = Stream()
        return found

    def _do_xadd(self, key: bytes, name: bytes, *row: bytes) -> Any:
        found = self._stream(key)
        top = found.top if found else HEAD
        entry_id = id_of(name) if name != b"*" else max((int(self.now_ms()), 0), (top[0], top[1] + 1))
        if entry_id == HEAD:
            raise Refused("ERR The ID specified in XADD must be greater than 0-0")
        if entry_id <= top:
            raise Refused(SMALLER)
        found = self._stream(key, make=True)
        assert found is not None
        found.ids.append(entry_id)
        found.rows.append(list(row))
        found.top = entry_id
        found.added += 1
        self.touch(key)
        return text_of(entry_id)

    def _do_xlen(self, key: bytes) -> Any:
        found = self._stream(key)
        return len(found.ids) if found else 0

    def _do_xrange(self, key: bytes, begin: bytes, end: bytes, *options: bytes) -> Any:
        found = self._stream(key)
        if found is None:
            return []
        exclusive = begin.startswith(b"(")
        first = HEAD if begin == b"-" else id_of(begin.removeprefix(b"("))
        last = (TOP_ID, TOP_ID) if end == b"+" else id_of(end)
        start = (bisect_right if exclusive else bisect_left)(found.ids, first)
        stop = bisect_right(found.ids, last)
        if options:
            stop = min(stop, start + int(options[1]))
        return _entries(found, start, stop)

    def _do_xtrim(self, key: bytes, _maxlen: bytes, about: bytes, limit: bytes) -> Any:
        found = self._stream(key)
        if found is None:
            return 0
        n = max(len(found.ids) - int(limit), 0)
        n -= n % NODE_ENTRIES if about == b"~" else 0
        if n:  # only XDEL moves `max-deleted-entry-id`
            del found.ids[:n], found.rows[:n]
            self.touch(key)
        return n

    def _read_streams(self, command: Sequence[bytes]) -> Any:
        at = [word.upper() for word in command].index(b"STREAMS")
        words = [word.upper() for word in command[:at]]
        count = int(command[words.index(b"COUNT") + 1])
        names = command[at + 1 :]
        half = len(names) // 2
        found = []
        self._purge()
        for key, position in zip(names[:half], names[half:], strict=True):
            stream = self._stream(key)
            if stream is None:
                continue
            start = bisect_right(stream.ids, id_of(position))
            entries = _entries(stream, start, min(start + count, len(stream.ids)))
            if entries:
                found.append([key, entries])
        return found or None

    def _do_xinfo(self, what: bytes, key: bytes) -> Any:
        found = self._stream(key)
        if found is None:
            raise Refused(NO_KEY)
        if what.upper() == b"GROUPS":
            return [self._group_info(found, name, group) for name, group in sorted(found.groups.items())]
        ends = [_entries(found, i, i + 1)[0] for i in (0, len(found.ids) - 1)] if found.ids else [None, None]
        facts: dict[bytes, Any] = {
            b"length": len(found.ids),
            b"last-generated-id": text_of(found.top),
            b"max-deleted-entry-id": text_of(found.deleted),
            b"entries-added": found.added,
            b"groups": len(found.groups),
            b"first-entry": ends[0],
            b"last-entry": ends[1],
        }
        return [part for pair in facts.items() for part in pair]

    def _group_info(self, stream: Stream, name: bytes, group: Group) -> list[Any]:
        lag = stream.added - group.read if group.read is not None else None
        facts = {
            b"name": name,
            b"consumers": 0,
            b"pending": 0,
            b"last-delivered-id": text_of(group.position),
            b"entries-read": group.read,
            b"lag": lag,
        }
        return [part for pair in facts.items() for part in pair]

    def _do_xgroup(self, verb: bytes, key: bytes, name: bytes, *rest: bytes) -> Any:
        verb = verb.upper()
        found = self._stream(key)
        if found is None and verb == b"CREATE" and b"MKSTREAM" in rest:
            found = self._stream(key, make=True)
            self.touch(key)
        if found is None:
            raise Refused(NEEDS_KEY)
        if verb == b"DESTROY":
            return int(found.groups.pop(name, None) is not None)
        if verb == b"CREATE" and name in found.groups:
            raise Refused("BUSYGROUP Consumer Group name already exists")
        if verb == b"SETID" and name not in found.groups:
            shown = f"'{name.decode()}' for key name '{key.decode()}'"
            raise Refused(f"NOGROUP No such consumer group {shown}")
        words = [word.upper() for word in rest]
        read = int(rest[words.index(b"ENTRIESREAD") + 1]) if b"ENTRIESREAD" in words else None
        found.groups[name] = Group(id_of(rest[0]), read)
        return Status("OK")


class Status(str):
    """A reply like `+OK`."""

    __slots__ = ()


def encode(reply: Any) -> bytes:
    """A reply as RESP2."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if isinstance(reply, Status):
        return b"+%b\r\n" % reply.encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, Refused):
        return b"-%b\r\n" % str(reply).encode()
    return b"*%d\r\n%b" % (len(reply), b"".join(map(encode, reply)))


def id_of(text: bytes) -> Id:
    ms, _, seq = text.partition(b"-")
    return int(ms), int(seq or 0)


def text_of(entry_id: Id) -> bytes:
    return b"%d-%d" % entry_id


def _entries(stream: Stream, start: int, stop: int) -> list[Any]:
    return [[text_of(stream.ids[i]), stream.rows[i]] for i in range(start, stop)]
