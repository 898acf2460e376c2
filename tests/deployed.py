"""Redis as it is deployed: certificates, a Redis Cluster, Sentinels; all real, on loopback ports."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from foretick.ports.slots import slot_of
from servers import Server, free_port, missing, server_binary, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = 16384


class Certificates:
    """A certificate authority and what it signs, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._openssl("req", "-x509", *self._new_key("ca"), "-days", "2", "-out", "ca.crt", "-subj", "/CN=test CA")

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def sign(self, name: str, *, days: int = 2, names: str = "IP:127.0.0.1,DNS:localhost") -> None:
        """`name`.crt and `name`.key, valid from now for so many days; expired where these are negative."""
        self._openssl("req", "-new", *self._new_key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / "extensions").write_text(f"subjectAltName={names}\n")
        authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *authority, "-days", str(days), "-out", f"{name}.crt")

    @staticmethod
    def _new_key(name: str) -> tuple[str, ...]:
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        try:
            subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30)
        except FileNotFoundError:
            missing("openssl")


class Cluster:
    """A Redis Cluster: masters with even shares of the slots, and so many replicas of each."""

    def __init__(self, masters: int = 3, replicas: int = 0, **options: str) -> None:
        self.nodes = [
            Server(
                "redis",
                cluster_enabled="yes",
                cluster_node_timeout="1000",
                **{"cluster_replica_validity_factor": "0", "repl_diskless_sync_delay": "0", **options},
            )
            for _ in range(masters * (1 + replicas))
        ]
        self.masters = self.nodes[:masters]
        self._replicas = replicas

    @property
    def url(self) -> str:
        """All nodes, as a user would name some of them."""
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> Cluster:
        for node in self.nodes:
            node.options["cluster_port"] = str(free_port())
            node.start()
        first = self.nodes[0]
        share = -(-SLOTS // len(self.masters))
        for number, node in enumerate(self.masters):
            self.ask(node, "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
            self.ask(node, "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.ask(node, "MEET", "127.0.0.1", first.port, first.options["cluster_port"])
        wait_until(lambda: all(self._is_ok(node) for node in self.nodes), 20, "the cluster")
        for number, node in enumerate(self.nodes[len(self.masters) :]):
            self._follow(node, self.masters[number % len(self.masters)])
        if self._replicas:
            wait_until(lambda: all(self._is_synced(node) for node in self.nodes[len(self.masters) :]), 30, "replicas")
        return self

    def _follow(self, node: Server, master: Server) -> None:
        name = self.ask(master, "MYID")
        wait_until(lambda: self.try_ask(node, "REPLICATE", name) == b"OK", 10, "a replica")

    def _is_ok(self, node: Server) -> bool:
        info = self.ask(node, "INFO").decode()
        return "cluster_state:ok" in info and f"cluster_known_nodes:{len(self.nodes)}" in info

    @staticmethod
    def _is_synced(node: Server) -> bool:
        with contextlib.closing(redis.Redis(port=node.port)) as client:
            return client.info("replication").get("master_link_status") == "up"

    @staticmethod
    def ask(node: Server, *command: Any) -> Any:
        """One CLUSTER command, of which redis-py would make other types."""
        with contextlib.closing(redis.Redis(port=node.port)) as client:
            connection = client.connection_pool.get_connection()
            try:
                connection.send_command("CLUSTER", *command)
                return connection.read_response()
            finally:
                client.connection_pool.release(connection)

    def try_ask(self, node: Server, *command: Any) -> Any:
        try:
            return self.ask(node, *command)
        except redis.RedisError as error:
            return error

    def client(self) -> redis.RedisCluster:
        nodes = [redis.cluster.ClusterNode("127.0.0.1", node.port) for node in self.nodes if node.alive()]
        return redis.RedisCluster(startup_nodes=nodes)

    def owner_of(self, key: str) -> Server:
        """The master that has the slot of a key now."""
        slot = slot_of(key.encode())
        asked = next(node for node in self.nodes if node.alive())
        for first, last, (_, port, *_), *_ in self.ask(asked, "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, key: str, target: Server) -> None:
        """The key's slot with all that is in it to another master, as `redis-cli --cluster reshard` does."""
        slot, source = slot_of(key.encode()), self.owner_of(key)
        self.ask(target, "SETSLOT", slot, "IMPORTING", self.ask(source, "MYID"))
        self.ask(source, "SETSLOT", slot, "MIGRATING", self.ask(target, "MYID"))
        with contextlib.closing(redis.Redis(port=source.port)) as client:
            while keys := self.ask(source, "GETKEYSINSLOT", slot, 10):
                client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        others = [node for node in self.masters if node not in (source, target) and node.alive()]
        for node in (target, source, *others):
            self.ask(node, "SETSLOT", slot, "NODE", self.ask(target, "MYID"))

    def discard(self) -> None:
        for node in self.nodes:
            node.discard()


class Sentinels:
    """A master with a replica, and three Sentinels that watch them."""

    def __init__(self, name: str = "main", **options: str) -> None:
        self.name = name
        self.servers = [Server("redis", repl_diskless_sync_delay="0", **options) for _ in range(2)]
        self.ports: list[int] = []
        self._watchers: list[Server] = []

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.ports) + f"/{self.name}"

    def start(self) -> Sentinels:
        master, replica = (server.start() for server in self.servers)
        with contextlib.closing(replica.client()) as client:
            client.replicaof("127.0.0.1", master.port)
        for _ in range(3):
            watcher = _Sentinel(self.name, master.port)
            self._watchers.append(watcher.start())
            self.ports.append(watcher.port)
        wait_until(self._is_known, 20, "three Sentinels that know each other")
        return self

    def _is_known(self) -> bool:
        facts = [self._facts(port) for port in self.ports]
        return all(one["num-other-sentinels"] == 2 and one["num-slaves"] == 1 for one in facts)

    def _facts(self, port: int) -> dict[str, Any]:
        with contextlib.closing(redis.Redis(port=port, decode_responses=True)) as client:
            found: dict[str, Any] = client.sentinel_master(self.name)
            return found

    def master(self) -> Server:
        """Whom the Sentinels hold for the master."""
        port = self._facts(self.ports[0])["port"]
        return next(server for server in self.servers if server.port == port)

    def discard(self) -> None:
        for server in (*self._watchers, *self.servers):
            server.discard()


class _Sentinel(Server):
    def __init__(self, name: str, master_port: int) -> None:
        super().__init__("redis")
        self._file = Path(tempfile.mkstemp(dir=self.folder, suffix=".conf")[1])
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {name} 127.0.0.1 {master_port} 2\n"
            f"sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n"
        )

    def _command(self) -> list[str]:
        return [server_binary("redis"), str(self._file), "--sentinel"]


@contextlib.contextmanager
def discarded(one: Any) -> Iterator[Any]:
    """Started for the block, gone after it."""
    try:
        yield one.start()
    finally:
        one.discard()
