# SPDX-License-Identifier: Apache-2.0
"""Brings a lab up and down."""

from __future__ import annotations

import concurrent.futures
import shutil
import sys
import time
from collections.abc import Callable

from openstacklab import accounts, authority, hypervisor, plumbing
from openstacklab.place import SECRET, Options, Place
from openstacklab.processes import LabError, Processes, accepts, until
from openstacklab.settings import PORTS, Settings

DATABASES = ["keystone", "glance", "placement", "neutron", "nova_api", "nova_cell0", "nova", "heat"]
MARIADB = [
    *("--no-defaults", "--bind-address=127.0.0.1", "--user=root", "--skip-name-resolve"),
    *("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--sync-binlog=0"),
    *("--innodb-buffer-pool-size=256M", "--performance-schema=OFF", "--max-connections=500"),
    *("--character-set-server=utf8mb3", "--collation-server=utf8mb3_general_ci"),
]
QUIET = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
"""For Erlang: one scheduler, which sleeps when there is nothing to do."""


class Lab:
    """One OpenStack."""

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        self.place = place
        self.processes = Processes(place)
        self._say = say
        self._began = time.monotonic()

    def start(self, options: Options) -> None:
        """All of it, from nothing.

        :raises LabError: telling which part failed; the rest is left for a look, stop() ends it.
        """
        if self.place.remembered() is not None:
            raise LabError(f"a lab is in {self.place.directory} already: stop it first")
        self.place.folder()
        self.place.remember(options)
        plumbing.lay(self.place)
        settings = Settings(self.place, options)
        settings.write()
        self._rabbitmq()
        self._mariadb([*DATABASES, *(["octavia"] if options.octavia else [])])
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            others = [pool.submit(self._prepare, *work) for work in preparations(settings)]
            self._keystone(settings, options)
            for other in others:
                other.result()
        self._services(settings, options)
        self._hypervisor(settings, options)
        self._first_things(options)
        self.place.path("clouds.yaml").write_text(self.place.clouds_yaml())
        self._step("up")

    def stop(self) -> None:
        """End it, and leave nothing."""
        self.processes.stop()
        plumbing.tear(self.place)
        if self.place.remembered() is not None:
            shutil.rmtree(self.place.directory)

    def status(self) -> dict[str, bool]:
        """Whether each daemon is there."""
        return {name: self.processes.alive(name) for name in self.processes.daemons()}

    def _step(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:6.1f} s  {what}")

    def _rabbitmq(self) -> None:
        home = self.place.folder("rabbitmq")
        (home / "rabbitmq.conf").write_text("loopback_users = none\n")
        (home / "enabled_plugins").write_text("[].\n")
        self.processes.start(
            "rabbitmq",
            "/usr/lib/rabbitmq/bin/rabbitmq-server",
            more={
                "HOME": str(home),
                "RABBITMQ_NODENAME": "lab@localhost",
                "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
                "RABBITMQ_LOG_BASE": str(home),
                "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": QUIET,
            },
        )

    def _mariadb(self, names: list[str]) -> None:
        data, socket = self.place.path("mariadb"), self.place.path("mariadb.sock")
        self.processes.run(
            *("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        )
        self.processes.start(
            "mariadb", "mariadbd", *MARIADB, f"--datadir={data}", f"--socket={socket}"
        )
        until(socket.exists, 60, f"MariaDB listens:\n{self.processes.log('mariadb')}")
        told = f"CREATE USER 'lab'@'127.0.0.1' IDENTIFIED BY '{SECRET}';"
        told += "GRANT ALL ON *.* TO 'lab'@'127.0.0.1' WITH GRANT OPTION;"
        told += "".join(f"CREATE DATABASE {name};" for name in names)
        self.processes.run("mariadb", "--no-defaults", "-uroot", f"-S{socket}", stdin=told)
        self._step("MariaDB")

    def _prepare(self, what: str, *commands: list[str]) -> None:
        for command in commands:
            self.processes.run(str(self.processes.bin / command[0]), *command[1:])
        self._step(f"{what}: database")

    def _keystone(self, settings: Settings, options: Options) -> None:
        manage = [str(self.processes.bin / "keystone-manage")]
        manage += ["--config-file", settings.file("keystone/keystone.conf")]
        self.processes.run(*manage, "db_sync")
        urls = [
            word
            for name in ("admin", "internal", "public")
            for word in (f"--bootstrap-{name}-url", self.place.auth_url)
        ]
        bootstrap = ("bootstrap", "--bootstrap-password", SECRET, "--bootstrap-region-id")
        self.processes.run(*manage, *bootstrap, "RegionOne", *urls)
        self.processes.serve("keystone", "keystone.wsgi.api", PORTS["keystone"])
        self.processes.answers("keystone", self.place.auth_url)
        accounts.make(self.place, options)
        self._step("Keystone")

    def _services(self, settings: Settings, options: Options) -> None:
        until(lambda: self._broker_listens(), 60, "RabbitMQ listens")
        apis = dict(APIS)
        if options.octavia:
            authority.make(self.place.folder("etc", "octavia"))
            apis["octavia"] = "octavia.wsgi.api"
        for name, module in apis.items():
            more = ("--config-file", settings.file("octavia/octavia.conf"))
            self.processes.serve(name, module, PORTS[name], *(more if name == "octavia" else ()))
        for name in ("nova-conductor", "nova-scheduler"):
            self._daemon(name, settings.file("nova/nova.conf"))
        self._daemon("heat-engine", settings.file("heat/heat.conf"))
        if options.octavia:
            self._daemon("octavia-worker", settings.file("octavia/octavia.conf"))
        for name in apis:
            self.processes.answers(name, f"http://{self.place.api}:{PORTS[name]}/")
        self.processes.start(
            "wiring", sys.executable, "-m", "openstacklab.wiring", str(self.place.directory)
        )
        self._step("APIs")

    def _broker_listens(self) -> bool:
        return accepts(self.place.api, PORTS["rabbitmq"])

    def _daemon(self, name: str, config: str, more: dict[str, str] | None = None) -> None:
        program = str(self.processes.bin / name)
        self.processes.start(name, program, "--config-file", config, more=more)

    def _hypervisor(self, settings: Settings, options: Options) -> None:
        more = {}
        if options.virt == "libvirt":
            hypervisor.start(self.processes)
            found = hypervisor.binding(self.place)
            more["PYTHONPATH"] = f"{self.processes.environment['PYTHONPATH']}:{found}"
        config = settings.file("nova/nova.conf")
        self._daemon("nova-compute", config, more)
        compute = accounts.connect(self.place).compute
        until(
            lambda: any(it.state == "up" for it in compute.services(binary="nova-compute")),
            120,
            f"nova-compute is up:\n{self.processes.log('nova-compute')}",
        )
        manage = (str(self.processes.bin / "nova-manage"), "--config-file", config)
        self.processes.run(*manage, "cell_v2", "discover_hosts")
        until(self._heat_answers, 120, f"Heat works:\n{self.processes.log('heat-engine')}")
        self._step("Nova and Heat")

    def _heat_answers(self) -> bool:
        """A call to an engine that is not there yet is lost, and waits for its time-out."""
        found = accounts.connect(self.place).orchestration.get("/services")
        return bool(found.ok and found.json()["services"])

    def _first_things(self, options: Options) -> None:
        """An external network, and flavors."""
        cloud = accounts.connect(self.place)
        public = cloud.network.create_network(name="public", is_router_external=True)
        cloud.network.create_subnet(
            network_id=public.id,
            ip_version=4,
            cidr=self.place.floating,
            is_dhcp_enabled=False,
        )
        for name, ram, disk in (("small", 512, 3), ("medium", 1024, 3)):
            cloud.compute.create_flavor(name=name, ram=ram, vcpus=1, disk=disk)
        if options.virt == "fake":
            cloud.create_image("none", data=b"no image", disk_format="raw", visibility="public")


APIS = {
    "glance": "glance.wsgi.api",
    "placement": "placement.wsgi.api",
    "neutron": "neutron.wsgi.api",
    "nova": "nova.wsgi.osapi_compute",
    "heat": "heat.wsgi.api",
    "heat-cfn": "heat.wsgi.cfn",
}


def preparations(settings: Settings) -> list[tuple[object, ...]]:
    """What makes the tables of each service but Keystone: its name, and command lines."""
    nova = ["nova-manage", "--config-file", settings.file("nova/nova.conf")]
    cell0 = f"--database_connection={settings.database('nova_cell0')}"
    neutron = ["neutron-db-manage"]
    for name in ("neutron.conf", "ml2.ini"):
        neutron += ["--config-file", settings.file(f"neutron/{name}")]
    found: list[tuple[object, ...]] = [
        (
            "Nova",
            [*nova, "api_db", "sync"],
            [*nova, "cell_v2", "map_cell0", cell0],
            [*nova, "cell_v2", "create_cell", "--name", "cell1"],
            [*nova, "db", "sync"],
        ),
        ("Neutron", [*neutron, "upgrade", "heads"]),
    ]
    for name, program, config, words in (
        ("Heat", "heat-manage", "heat/heat.conf", ["db_sync"]),
        ("Glance", "glance-manage", "glance/glance-api.conf", ["db_sync"]),
        ("Placement", "placement-manage", "placement/placement.conf", ["db", "sync"]),
    ):
        found.append((name, [program, "--config-file", settings.file(config), *words]))
    if settings.options.octavia:
        octavia = ["octavia-db-manage", "--config-file", settings.file("octavia/octavia.conf")]
        found.append(("Octavia", [*octavia, "upgrade", "head"]))
    return found
