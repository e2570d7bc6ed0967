# SPDX-License-Identifier: Apache-2.0
"""cnsmo-agent: the agents of this VM, or with --service NAME one of them alone."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from oslo_config import cfg

from cnsmo import conf
from cnsmo.agent import facts
from cnsmo.agent.identity import StateDir
from cnsmo.agent.join import JoinClient
from cnsmo.agent.notice import EVERY_SERVICE
from cnsmo.agent.process import AgentProcess
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.bus import transport
from cnsmo.bus.knock import ways
from cnsmo.cmd import program
from cnsmo.model.errors import InvalidRequest
from cnsmo.services import registry

CLI = [
    cfg.StrOpt("service", help="Run the agent of this service alone, in a process of its own."),
    cfg.BoolOpt("leave", default=False, help="Leave the deployment, take everything down, end."),
    cfg.BoolOpt(
        "teardown",
        default=False,
        help="Take everything down without asking the core, for a host that it does not know "
        "any more; then end.",
    ),
]


def main() -> int:
    """Entry point."""
    return program.run("cnsmo-agent", _work)


def _work() -> int:
    conf.CONF.register_cli_opts(CLI)
    conf.load(program="cnsmo-agent")
    agent = AgentProcess(conf.CONF, settings(conf.CONF))
    if conf.CONF.leave or conf.CONF.teardown:
        failures = agent.leave(teardown_only=conf.CONF.teardown)
        for failure in failures:
            print(f"cnsmo-agent: {failure}", file=sys.stderr)
        return 1 if failures else 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.run()
    return 0


def settings(options: cfg.ConfigOpts) -> Settings:
    """Settings of an agent on this very host, from its configuration.

    :raises InvalidRequest: when a service that shall run is not installed.
    """
    group, told = options.agent, options.metrics
    alone = options.service
    names = [alone] if alone else list(group.services) or list(registry.services())
    for name in names:
        registry.service(name)
    system = LocalSystem(ways=_ways(options), stays=True)
    return Settings(
        state_dir=StateDir(Path(group.state_dir), alone or EVERY_SERVICE),
        host=facts.host_name(options),
        services=tuple(names),
        system=system,
        facts=lambda: facts.gather(options, system),
        token=lambda: _token(Path(group.token_file)),
        heartbeat=group.heartbeat,
        resync=group.resync,
        rpc_timeout=group.rpc_timeout,
        retry_max=group.retry_max,
        join_url=group.join_url,
        ca_fingerprint=group.ca_fingerprint,
        metrics=(told.listen_address, told.listen_port) if told.listen_port else None,
    )


def _ways(options: cfg.ConfigOpts) -> tuple[tuple[str, int], ...]:
    """Where this host calls the core: at the broker, and where it joins."""
    found = () if transport.is_in_process(options) else ways(options)
    group = options.agent
    if group.join_url:
        client = JoinClient(group.join_url, group.ca_fingerprint, group.rpc_timeout)
        found = (*found, client.address)
    return found


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as exc:
        raise InvalidRequest(
            f"the join token cannot be read from {path}: {exc.strerror}. Put the token there that "
            "'cnsmo-manage token create' printed, or name another file ([agent] token_file)"
        ) from exc


if __name__ == "__main__":
    sys.exit(main())
