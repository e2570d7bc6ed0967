# SPDX-License-Identifier: Apache-2.0
"""Several RabbitMQ brokers that are one cluster: queues and accounts of one are those of all."""

from collections.abc import Sequence
from typing import Self

from tests.beds.bed import Bed
from tests.beds.erlang import binary
from tests.beds.process import wait_until
from tests.beds.rabbitmq import RabbitmqBed, Vhost


class FirstBed(RabbitmqBed):
    """The broker whose epmd all members use: that outlives it, and ends with the cluster."""

    def kill(self) -> None:
        Bed.kill(self)

    def stop(self, timeout: float = 30) -> None:
        Bed.stop(self, timeout)


class MemberBed(RabbitmqBed):
    """A broker that joins the cluster of another one when it first starts, and shares its epmd."""

    def __init__(self, first: RabbitmqBed) -> None:
        super().__init__(
            config="cluster_formation.peer_discovery_backend = classic_config\n"
            f"cluster_formation.classic_config.nodes.1 = {first.node}\n"
        )
        self._first = first
        self._epmd_port = first._epmd_port

    def _prepare(self, timeout: float) -> None:
        super()._prepare(timeout)
        cookie = self.directory / ".erlang.cookie"
        cookie.chmod(0o600)
        cookie.write_text((self._first.directory / ".erlang.cookie").read_text())
        cookie.chmod(0o400)

    def _command(self) -> list[str]:
        return [str(self._server)]


class RabbitmqCluster:
    """Three brokers; use as a context manager."""

    def __init__(self) -> None:
        first = FirstBed()
        self.members: Sequence[RabbitmqBed] = (first, MemberBed(first), MemberBed(first))

    def __enter__(self) -> Self:
        try:
            for member in self.members:
                member.start()
            wait_until(self._whole, 60, "all are one cluster")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End all."""
        for member in reversed(self.members):
            member.close()

    def transport_url(self, vhost: Vhost) -> str:
        """For oslo.messaging: all members."""
        account = f"{vhost.user}:{vhost.password}"
        places = ",".join(f"{account}@127.0.0.1:{member.port}" for member in self.members)
        return f"rabbit://{places}/{vhost.name}"

    def leader(self, vhost: Vhost, queue: str) -> RabbitmqBed:
        """The member that leads a quorum queue, as any living one knows."""
        asked = next(member for member in self.members if member.alive)
        name = asked.evaluate(
            f"{{ok, Q}} = rabbit_amqqueue:lookup("
            f"rabbit_misc:r({binary(vhost.name)}, queue, {binary(queue)})),"
            " atom_to_binary(element(2, amqqueue:get_pid(Q)))"
        )
        return next(member for member in self.members if member.node == name)

    def _whole(self) -> bool:
        """Whether all have joined and are booted: a virtual host that is made before that never
        comes up on who was not."""
        joined = self.members[0].evaluate("length(rabbit_mnesia:cluster_nodes(running))")
        return joined == len(self.members) and all(
            member.evaluate("rabbit:is_booted()") is True for member in self.members
        )
