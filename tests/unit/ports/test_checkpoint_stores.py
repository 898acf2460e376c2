"""Both stores: what was written and switched is read again, whatever was left half done before."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from foretick.errors import CheckpointFailed, CheckpointUnsound, StateUnreadable
from foretick.ports.checkpoints import FolderStore, Packed, RedisStore, unpack
from foretick.ports.connection import RedisConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from foretick.ports.checkpoints import CheckpointStore
    from servers import Server

BASE = b"foretick:{default}:checkpoint"
LARGE = 2_500_000  # bytes: three pieces in Redis


class Abandoned(Exception):
    pass


def packed(number: int, size: int = LARGE) -> Packed:
    return Packed({"payload": np.full(size, number, np.uint8)}, {"number": number})


def no_pause(_seconds: float) -> None:
    pass


def pause_until(piece: int) -> Callable[[float], None]:
    """Abandons the writing at a piece."""
    left = [piece]

    def pause(_seconds: float) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Abandoned

    return pause


def save(store: CheckpointStore, server: Server, number: int, size: int = LARGE) -> None:
    """All that the app does for a checkpoint."""
    generation = store.write(packed(number, size), no_pause)
    carry_out(server, store.switch(generation))
    store.tidy()


def carry_out(server: Server, commands) -> None:
    for command in commands:
        server.client().execute_command(*command)


def numbers(store: CheckpointStore) -> list[int]:
    """What the generations that count hold, newest first."""
    return [unpack(store.read(one, lambda: None)).facts["number"] for one in store.generations()]


@pytest.fixture(params=["redis", "folder"])
def make_store(
    request: pytest.FixtureRequest, redis_server: Server, tmp_path: Path
) -> Iterator[Callable[[], CheckpointStore]]:
    made: list[CheckpointStore] = []

    def make() -> CheckpointStore:
        if request.param == "folder":
            made.append(FolderStore(tmp_path, b"foretick", b"default"))
        else:
            connection = RedisConnection(redis_server.url, timeout_seconds=5)
            made.append(RedisStore(connection, BASE, 64_000_000))
        return made[-1]

    yield make
    for store in made:
        store.close()


pytestmark = pytest.mark.redis


def test_a_new_store_is_empty(make_store: Callable[[], CheckpointStore]) -> None:
    assert make_store().generations() == []


def test_two_generations_are_kept_and_the_newest_comes_first(
    make_store: Callable[[], CheckpointStore], redis_server: Server
) -> None:
    store = make_store()
    for number in range(1, 5):
        save(store, redis_server, number)
        assert numbers(make_store()) == [number, number - 1][:number]


def test_another_process_goes_on_counting(make_store: Callable[[], CheckpointStore], redis_server: Server) -> None:
    for number in range(1, 4):
        store = make_store()
        store.generations()
        save(store, redis_server, number)
    assert numbers(make_store()) == [3, 2]
    assert [one.number for one in make_store().generations()] == [3, 2]


def test_what_was_written_does_not_count_before_the_switch(
    make_store: Callable[[], CheckpointStore], redis_server: Server
) -> None:
    store = make_store()
    save(store, redis_server, 1)
    store.write(packed(2), no_pause)
    assert numbers(make_store()) == [1]


@pytest.mark.parametrize("piece", [0, 1, 2])
def test_a_write_that_ends_halfway_leaves_the_one_before_and_nothing_for_ever(
    make_store: Callable[[], CheckpointStore], redis_server: Server, tmp_path: Path, piece: int
) -> None:
    store = make_store()
    save(store, redis_server, 1)
    with suppress(Abandoned):
        store.write(packed(2), pause_until(piece))
    again = make_store()
    assert numbers(again) == [1]
    save(again, redis_server, 3)
    assert numbers(again) == [3, 1]
    left = [*redis_server.client().keys(BASE + b":0*"), *tmp_path.glob("*/*")]
    assert len(left) == 2


def test_an_abandoned_write_really_stops(make_store: Callable[[], CheckpointStore]) -> None:
    with pytest.raises(Abandoned):
        make_store().write(packed(1), pause_until(1))


def test_what_is_forgotten_counts_no_more(make_store: Callable[[], CheckpointStore], redis_server: Server) -> None:
    store = make_store()
    save(store, redis_server, 1)
    save(store, redis_server, 2)
    newest, before = store.generations()
    carry_out(redis_server, store.forget([newest]))
    assert numbers(make_store()) == [1]
    carry_out(redis_server, store.forget([before]))
    assert make_store().generations() == []
    save(store, redis_server, 3)
    assert numbers(make_store()) == [3]


def test_a_stranger_s_keys_and_files_are_left_alone(
    make_store: Callable[[], CheckpointStore], redis_server: Server, tmp_path: Path
) -> None:
    store = make_store()
    store.generations()
    redis_server.client().set("foretick:{other}:checkpoint:manifest", "x")
    for folder in tmp_path.iterdir():
        (folder / "notes.txt").write_text("mine")
    for number in range(4):
        save(store, redis_server, number)
    assert redis_server.client().get("foretick:{other}:checkpoint:manifest") == b"x"
    assert all((folder / "notes.txt").exists() for folder in tmp_path.iterdir())


# Redis alone.


@pytest.fixture
def redis_store(redis_server: Server) -> Iterator[RedisStore]:
    store = RedisStore(RedisConnection(redis_server.url, timeout_seconds=5), BASE, 64_000_000)
    yield store
    store.close()


@pytest.mark.parametrize(
    "text",
    [
        b"not json",
        b"[]",
        b'{"schema": 2, "generations": []}',
        b'{"schema": 1, "generations": [{"name": "../../x", "bytes": 1}]}',
        b'{"schema": 1, "generations": [{"name": "000000001-00000000", "bytes": -1}]}',
        b'{"schema": 1, "generations": [1, 2, 3]}',
        b"[" * 9000,
        b"x" * 5_000_000,
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_and_replaced_by_the_next(
    redis_store: RedisStore, redis_server: Server, text: bytes
) -> None:
    redis_server.client().set(BASE + b":manifest", text)
    with pytest.raises(CheckpointUnsound, match="manifest"):
        redis_store.generations()
    save(redis_store, redis_server, 7, 10)
    assert numbers(redis_store) == [7]


@pytest.mark.parametrize("piece", [0, 1, 2])
@pytest.mark.parametrize("damage", ["missing", "short", "long", "empty"])
def test_a_piece_that_is_missing_or_of_another_length_is_found(
    redis_store: RedisStore, redis_server: Server, piece: int, damage: str
) -> None:
    save(redis_store, redis_server, 1)
    client = redis_server.client()
    (newest,) = redis_store.generations()
    key = BASE + b":" + newest.name.encode()
    stored = client.hget(key, piece)
    altered = {"short": stored[:-1], "long": stored + b"x", "empty": b"", "missing": None}[damage]
    client.hdel(key, piece) if altered is None else client.hset(key, piece, altered)
    with pytest.raises(CheckpointUnsound):
        unpack(redis_store.read(newest, lambda: None))


def test_no_piece_is_larger_than_a_megabyte(redis_store: RedisStore, redis_server: Server) -> None:
    save(redis_store, redis_server, 1)
    client = redis_server.client()
    (key,) = client.keys(BASE + b":0*")
    lengths = [client.hstrlen(key, piece) for piece in range(client.hlen(key))]
    assert max(lengths) <= 1_000_000
    assert sum(lengths) == packed(1).size_bytes


def test_the_manifest_can_be_read_by_people(redis_store: RedisStore, redis_server: Server) -> None:
    save(redis_store, redis_server, 1)
    manifest = json.loads(redis_server.client().get(BASE + b":manifest"))
    assert manifest["generations"][0]["bytes"] == packed(1).size_bytes


# A folder alone.


@pytest.fixture
def folder_store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path, b"foretick", b"default")
    store.generations()
    return store


def test_a_file_cut_short_is_refused_and_the_one_before_stands(folder_store: FolderStore, redis_server: Server) -> None:
    save(folder_store, redis_server, 1)
    save(folder_store, redis_server, 2)
    newest = folder_store.generations()[0]
    path = folder_store._path(newest)
    path.write_bytes(path.read_bytes()[:-5])
    newest, before = folder_store.generations()
    with pytest.raises(CheckpointUnsound, match="checksum"):
        unpack(folder_store.read(newest, lambda: None))
    assert unpack(folder_store.read(before, lambda: None)).facts["number"] == 1


def test_a_file_that_shrinks_while_it_is_read_is_refused(folder_store: FolderStore, redis_server: Server) -> None:
    save(folder_store, redis_server, 1)
    (newest,) = folder_store.generations()
    folder_store._path(newest).write_bytes(b"")
    with pytest.raises(CheckpointUnsound, match="shorter"):
        folder_store.read(newest, lambda: None)


def test_what_is_forgotten_is_put_aside_and_not_for_ever(folder_store: FolderStore, redis_server: Server) -> None:
    for number in range(1, 6):
        save(folder_store, redis_server, number, 10)
        folder_store.forget(folder_store.generations())
    folder_store.tidy()
    assert len(list(folder_store.folder.glob("*.aside"))) == 2


@pytest.mark.parametrize("partition", [b"..", b".", b"a/b", b"a%2Fb", b"\xff\n", b"", b"d\xc3\xa9faut"])
def test_any_partition_has_a_folder_of_its_own_inside_the_root(tmp_path: Path, partition: bytes) -> None:
    store, plain = FolderStore(tmp_path, b"foretick", partition), FolderStore(tmp_path, b"foretick", b"x")
    store.generations()
    plain.generations()
    assert store.folder.parent == tmp_path
    assert store.folder.resolve() != plain.folder.resolve()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_place_that_is_no_folder_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnreadable, match="cannot be used"):
        FolderStore(tmp_path / "file", b"foretick", b"default").generations()


def test_a_disk_that_refuses_is_a_failure_with_its_reason(folder_store: FolderStore) -> None:
    folder_store.folder.rmdir()
    folder_store.folder.write_text("in the way")
    with pytest.raises(CheckpointFailed, match="File exists"):
        folder_store.write(packed(1), no_pause)
