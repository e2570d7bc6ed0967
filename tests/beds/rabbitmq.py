# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ broker of our own, with its own epmd."""

import secrets
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.beds.bed import Bed, find_program
from tests.beds.erlang import binary, evaluate
from tests.beds.ports import PortLease, accepts
from tests.beds.process import ServerProcess, wait_until

# The greeting of a client. The broker answers it only when it is ready for clients.
AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"
ACTOR = '<<"bed">>'  # Who did it, in the broker's log.


@dataclass(frozen=True)
class Vhost:
    """A virtual host and the account that may do everything in it, and nothing elsewhere."""

    name: str
    user: str
    password: str
    port: int

    @property
    def transport_url(self) -> str:
        """For oslo.messaging."""
        return f"rabbit://{self.user}:{self.password}@127.0.0.1:{self.port}/{self.name}"


@dataclass(frozen=True)
class Queue:
    """What the broker says about one queue."""

    name: str
    type: str
    messages: int
    consumers: int


class RabbitmqBed(Bed):
    """RabbitMQ on 127.0.0.1:`port`; data survive stop, kill and start."""

    package = "rabbitmq-server"

    def __init__(
        self, *, management: bool = False, plugins: Sequence[str] = (), config: str = ""
    ) -> None:
        """A broker without plugins and TLS, unless asked for.

        `management` adds the HTTP API on `management_port`; `plugins` are enabled besides, each
        costs time and memory; `config` is appended to rabbitmq.conf.
        """
        super().__init__()
        self._leases = [PortLease() for _ in range(3)]
        self._epmd_port, self._dist_port, self.management_port = (p.port for p in self._leases)
        self._plugins = ["rabbitmq_management"] * management + list(plugins)
        self._config = config
        if management:
            self._config += (
                f"\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n"
            )
        self.node = f"cnsmo-{secrets.token_hex(4)}@localhost"
        self._epmd: ServerProcess | None = None

    def create_vhost(self) -> Vhost:
        """A fresh virtual host with an account of its own."""
        name = f"test-{secrets.token_hex(6)}"
        vhost = Vhost(name, user=name, password=secrets.token_hex(16), port=self.port)
        self.evaluate(f"rabbit_vhost:add({binary(name)}, {ACTOR}), ok")
        self.create_user(vhost.user, vhost.password, name)
        return vhost

    def delete_vhost(self, vhost: Vhost) -> None:
        """Remove it with its queues, connections and account."""
        self.evaluate(
            f"rabbit_auth_backend_internal:delete_user({binary(vhost.user)}, {ACTOR}),"
            f"rabbit_vhost:delete({binary(vhost.name)}, {ACTOR}), ok"
        )

    def create_user(
        self,
        user: str,
        password: str,
        vhost: str,
        *,
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
        administrator: bool = False,
    ) -> None:
        """Create an account with the given permissions (regular expressions) in one vhost."""
        name, tags = binary(user), "[administrator]" if administrator else "[]"
        self.evaluate(
            f"rabbit_auth_backend_internal:add_user({name}, {binary(password)}, {ACTOR}),"
            f"rabbit_auth_backend_internal:set_tags({name}, {tags}, {ACTOR}),"
            f"rabbit_auth_backend_internal:set_permissions({name}, {binary(vhost)},"
            f" {binary(configure)}, {binary(write)}, {binary(read)}, {ACTOR}), ok"
        )

    def queues(self, vhost: Vhost) -> list[Queue]:
        """The queues of a virtual host, by name."""
        items = "[name, type, messages, consumers]"
        rows = self.evaluate(
            "lists:map(fun(Queue) ->"
            f"  [{{_, {{resource, _, _, N}}}}, {{_, T}}, {{_, M}}, {{_, C}}] ="
            f"    rabbit_amqqueue:info(Queue, {items}),"
            "  [N, atom_to_binary(T), M, C]"
            f" end, rabbit_amqqueue:list({binary(vhost.name)}))"
        )
        return sorted((Queue(*row) for row in rows), key=lambda queue: queue.name)

    def connections(self) -> int:
        """Number of open client connections."""
        return int(self.evaluate("length(rabbit_networking:connections())"))

    def close_all_connections(self) -> int:
        """Close every client's connection, as an operator or a failover does; returns how many."""
        return int(
            self.evaluate(
                'length([rabbit_networking:close_connection(C, <<"closed by the test bed">>)'
                " || C <- rabbit_networking:connections()])"
            )
        )

    def evaluate(self, expression: str, timeout: int = 30) -> Any:
        """Value of an Erlang expression in the broker, as JSON makes it a Python object.

        `timeout` in seconds. Raises BedError when it fails or the broker does not answer.
        """
        return evaluate(
            str(self._erl_call), self.node, expression, env=self._env(), timeout=timeout
        )

    def stop(self, timeout: float = 30) -> None:
        super().stop(timeout)
        self._stop_epmd()

    def kill(self) -> None:
        super().kill()
        self._stop_epmd()

    def close(self) -> None:
        super().close()
        self._stop_epmd()
        for lease in self._leases:
            lease.release()

    @property
    def pids(self) -> list[int]:
        return super().pids + (self._epmd.family if self._epmd else [])

    def _locate(self) -> None:
        lib = Path("/usr/lib/rabbitmq/lib")
        # Not the wrapper in /usr/sbin: that insists on the account and paths of the package.
        self._server = find_program(
            self.package, *sorted(lib.glob("rabbitmq_server-*/sbin/rabbitmq-server"), reverse=True)
        )
        self._epmd_program = find_program("erlang-base", shutil.which("epmd"))
        self._erl_call = find_program("erlang-base", shutil.which("erl_call"))

    def _prepare(self, timeout: float) -> None:
        cookie = self.directory / ".erlang.cookie"
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self.directory / "enabled_plugins").write_text(f"[{', '.join(self._plugins)}].")
        config = self.directory / "rabbitmq.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            "default_user = bed\n"
            f"default_pass = {self.password}\n"
            "log.console = false\n"
            "log.file = broker.log\n"
            "log.file.level = debug\n"
            "disk_free_limit.absolute = 1MB\n" + self._config
        )
        if not self._plugins:
            self._server = self._without_plugins()

    def _env(self) -> dict[str, str]:
        place = self.directory
        return super()._env() | {
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
            "RABBITMQ_LOG_BASE": str(place),
            "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(place / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(place / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "enabled_plugins"),
            # The script then becomes the broker (exec) instead of waiting for it as a child.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # Several brokers on one machine must not be pinned to the same cores.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
        }

    def _command(self) -> list[str]:
        if not (self._epmd and self._epmd.alive):
            self._epmd = ServerProcess(
                [str(self._epmd_program)], log=self.directory / "epmd.log", env=self._env()
            )
            # Else the broker's script would start one as a daemon.
            wait_until(lambda: accepts(self._epmd_port), 10, "epmd listens")
        return [str(self._server)]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as client:
                client.settimeout(5)
                client.sendall(AMQP_0_9_1)
                return bool(client.recv(1))
        except OSError:
            return False

    def _without_plugins(self) -> Path:
        """A tree of links to the broker and its libraries; returns the server's script in it.

        Erlang looks for each of a thousand modules in each of 70 directories: leaving the plugins
        out saves a third of the start.
        """
        package, tree = self._server.parents[1], self.directory / "server"
        (tree / "plugins").mkdir(parents=True)
        for part in ("sbin", "escript"):
            (tree / part).symlink_to(package / part)
        for library in (package / "plugins").iterdir():
            name = library.name.partition("-")[0]
            if name == "rabbitmq_prelaunch" or not name.startswith("rabbitmq_"):
                (tree / "plugins" / library.name).symlink_to(library)
        return tree / "sbin" / self._server.name

    def _stop_epmd(self) -> None:
        if self._epmd:
            self._epmd.kill()
