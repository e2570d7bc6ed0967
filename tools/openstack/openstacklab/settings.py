# SPDX-License-Identifier: Apache-2.0
"""The configuration files of the services, small: one worker each, and no quotas but Neutron's."""

from __future__ import annotations

import base64
import os
import shutil
import sys
from pathlib import Path

from openstacklab.place import REGION, SECRET, Options, Place

Section = dict[str, object]
Sections = dict[str, Section]
HOST = "lab"
"""The name of the one hypervisor."""
LIBVIRT = "libvirt/run/libvirt-sock"
PORTS = {
    "keystone": 5000, "glance": 9292, "placement": 8778, "nova": 8774, "neutron": 9696,
    "heat": 8004, "heat-cfn": 8000, "octavia": 9876, "rabbitmq": 5672, "mariadb": 3306,
}  # fmt: skip


class Settings:
    """Writes them all."""

    def __init__(self, place: Place, options: Options) -> None:
        self.place = place
        self.options = options

    def write(self) -> None:
        """All files below etc/."""
        self._put("keystone/keystone.conf", self._keystone())
        self._put("glance/glance-api.conf", self._glance())
        self._put("placement/placement.conf", self._placement())
        self._put("neutron/neutron.conf", self._neutron())
        self._put("neutron/ml2.ini", ML2)
        self._put("nova/nova.conf", self._nova())
        self._put("heat/heat.conf", self._heat())
        shutil.copy(_packaged("nova", "api-paste.ini"), self.place.folder("etc", "nova"))
        # Heat's APIs look nowhere else.
        home = self.place.folder("home", ".heat")
        shutil.copy(self.place.path("etc", "heat", "heat.conf"), home)
        for name in ("fernet", "credential"):
            self._keys(self.place.folder("etc", "keystone", name, mode=0o700))
        if self.options.octavia:
            self._put("octavia/octavia.conf", self._octavia())

    def file(self, name: str) -> str:
        """Where one of them is."""
        return str(self.place.path("etc", name))

    def database(self, name: str) -> str:
        """The URL of a database."""
        return f"mysql+pymysql://lab:{SECRET}@127.0.0.1/{name}?charset=utf8mb4"

    def _put(self, name: str, sections: Sections) -> None:
        lines: list[str] = []
        for section, options in sections.items():
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in options.items()), ""]
        path = self.place.path("etc", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))

    def _keys(self, folder: Path) -> None:
        for name in ("0", "1"):
            path = folder / name
            if not path.exists():
                path.write_bytes(base64.urlsafe_b64encode(os.urandom(32)))

    def _url(self, service: str, path: str = "") -> str:
        return f"http://{self.place.api}:{PORTS[service]}{path}"

    def _db(self, name: str) -> Section:
        return {"connection": self.database(name), "max_pool_size": 5, "max_overflow": 20}

    def _common(self) -> Section:
        url = f"rabbit://guest:guest@127.0.0.1:{PORTS['rabbitmq']}/"
        return {"transport_url": url, "use_stderr": "true", "log_options": "false"}

    def _client(self, user: str) -> Section:
        return {
            "auth_type": "password",
            "auth_url": self._url("keystone"),
            "username": user,
            "password": SECRET,
            "project_name": "service",
            "project_domain_name": "Default",
            "user_domain_name": "Default",
            "region_name": REGION,
            "valid_interfaces": "public",
        }

    def _token(self, user: str) -> Section:
        asked = {key: value for key, value in self._client(user).items() if key != "region_name"}
        asked.pop("valid_interfaces")
        more = {"www_authenticate_uri": self._url("keystone"), "service_token_roles": "service"}
        return asked | more | {"service_token_roles_required": "true"}

    def _locks(self) -> Section:
        return {"lock_path": self.place.folder("locks")}

    def _keystone(self) -> Sections:
        etc = self.place.path("etc", "keystone")
        return {
            "DEFAULT": {"use_stderr": "true"},
            "database": self._db("keystone"),
            "token": {"provider": "fernet"},
            "fernet_tokens": {"key_repository": etc / "fernet"},
            "fernet_receipts": {"key_repository": etc / "fernet"},
            "credential": {"key_repository": etc / "credential"},
            # Without a cache to look into, a token's check takes half a second.
            "cache": {
                "enabled": "true",
                "backend": "oslo_cache.dict",
                "backend_argument": "expiration_time:600",
            },
            "identity": {"password_hash_algorithm": "bcrypt", "password_hash_rounds": 4},
        }

    def _glance(self) -> Sections:
        state = self.place.path("state")
        return {
            "DEFAULT": {**self._common(), "enabled_backends": "fs:file", "workers": 1},
            "database": self._db("glance"),
            "keystone_authtoken": self._token("glance"),
            "paste_deploy": {
                "flavor": "keystone",
                "config_file": _packaged("glance", "glance-api-paste.ini"),
            },
            "glance_store": {"default_backend": "fs"},
            "fs": {"filesystem_store_datadir": self.place.folder("images")},
            "os_glance_staging_store": {"filesystem_store_datadir": state / "staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": state / "tasks"},
            "oslo_concurrency": self._locks(),
        }

    def _placement(self) -> Sections:
        return {
            "DEFAULT": {"use_stderr": "true"},
            "placement_database": self._db("placement"),
            "api": {"auth_strategy": "keystone"},
            "keystone_authtoken": self._token("placement"),
        }

    def _neutron(self) -> Sections:
        return {
            "DEFAULT": {
                **self._common(),
                "core_plugin": "ml2",
                # Without the second, the list of floating IPs fails.
                "service_plugins": "router,port_forwarding",
                "notify_nova_on_port_status_changes": "false",
                "notify_nova_on_port_data_changes": "false",
                "dhcp_agent_notification": "false",
                "api_paste_config": _packaged("neutron", "api-paste.ini"),
                "state_path": self.place.folder("state", "neutron"),
                "api_workers": 1,
                "rpc_workers": 1,
                "rpc_state_report_workers": 0,
            },
            "database": self._db("neutron"),
            "keystone_authtoken": self._token("neutron"),
            "nova": self._client("nova"),
            "placement": self._client("placement"),
            "oslo_concurrency": self._locks(),
        }

    def _nova(self) -> Sections:
        virt = {"fake": "fake.FakeDriver", "libvirt": "libvirt.LibvirtDriver"}[self.options.virt]
        helper = f"{sys.prefix}/bin/privsep-helper --config-file {self.file('nova/nova.conf')}"
        state = self.place.folder("state", "nova")
        return {
            "DEFAULT": {
                **self._common(),
                "host": HOST,
                "my_ip": "127.0.0.1",
                "compute_driver": virt,
                "state_path": state,
                "instances_path": self.place.folder("state", "nova", "instances"),
                "vif_plugging_is_fatal": "false",
                "vif_plugging_timeout": 0,
                "force_config_drive": "true",
                "reserved_host_memory_mb": 0,
                "reserved_host_disk_mb": 0,
                "cpu_allocation_ratio": 64.0,
            },
            "api_database": self._db("nova_api"),
            "database": self._db("nova"),
            "keystone_authtoken": self._token("nova"),
            "service_user": {"send_service_user_token": "true", **self._client("nova")},
            "glance": {"api_servers": self._url("glance"), **self._client("nova")},
            "neutron": self._client("nova"),
            "placement": self._client("nova"),
            "wsgi": {"api_paste_config": self.place.path("etc", "nova", "api-paste.ini")},
            "oslo_concurrency": self._locks(),
            "conductor": {"workers": 1},
            "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 10},
            "vnc": {"enabled": "false"},
            "filter_scheduler": {"track_instance_changes": "false"},
            "libvirt": {
                "virt_type": "qemu",
                "cpu_mode": "none",
                "connection_uri": f"qemu+unix:///system?socket={self.place.path(LIBVIRT)}",
                "inject_partition": -2,
            },
            "nova_sys_admin": {"helper_command": helper},
            "vif_plug_ovs_privileged": {"helper_command": helper},
            "privsep_osbrick": {"helper_command": helper},
        }

    def _heat(self) -> Sections:
        cfn = self._url("heat-cfn")
        return {
            "DEFAULT": {
                **self._common(),
                "heat_metadata_server_url": cfn,
                "heat_waitcondition_server_url": f"{cfn}/v1/waitcondition",
                "stack_domain_admin": "heat_domain_admin",
                "stack_domain_admin_password": SECRET,
                "stack_user_domain_name": "heat",
                "num_engine_workers": 1,
                "rpc_response_timeout": 180,
                "environment_dir": _packaged("heat", "environment.d"),
                "template_dir": _packaged("heat", "templates"),
                "plugin_dirs": self.place.folder("plugins"),
                "auth_encryption_key": "0123456789abcdef0123456789abcdef",
                "action_retry_limit": 0,
                "region_name_for_services": REGION,
            },
            "database": self._db("heat"),
            "keystone_authtoken": self._token("heat"),
            "trustee": {
                "auth_type": "password",
                "auth_url": self._url("keystone"),
                "username": "heat",
                "password": SECRET,
                "user_domain_name": "Default",
            },
            "clients_keystone": {"auth_uri": self._url("keystone")},
            "paste_deploy": {"api_paste_config": _packaged("heat", "api-paste.ini")},
            "oslo_concurrency": self._locks(),
        }

    def _octavia(self) -> Sections:
        return {
            "DEFAULT": self._common(),
            "api_settings": {
                "bind_host": "0.0.0.0",
                "enabled_provider_drivers": "octavia: 'amphorae that are none'",
                "default_provider_driver": "octavia",
                "allow_ping_health_monitors": "true",
            },
            "database": self._db("octavia"),
            "keystone_authtoken": self._token("octavia"),
            "service_auth": self._client("octavia"),
            "oslo_messaging": {"topic": "octavia_prov"},
            "certificates": {
                "cert_manager": "noop_cert_manager",
                "cert_generator": "local_cert_generator",
                "ca_certificate": self.file("octavia/ca.pem"),
                "ca_private_key": self.file("octavia/ca.key.pem"),
                "ca_private_key_passphrase": SECRET,
                "server_certs_key_passphrase": "insecure-key-do-not-use-this-key",
            },
            "controller_worker": {
                "amphora_driver": "amphora_noop_driver",
                "compute_driver": "compute_noop_driver",
                "network_driver": "network_noop_driver",
                "image_driver": "image_noop_driver",
                "volume_driver": "volume_noop_driver",
                "distributor_driver": "distributor_noop_driver",
                "client_ca": self.file("octavia/ca.pem"),
                "amp_image_tag": "none",
                "amp_flavor_id": "0",
                "amp_boot_network_list": "00000000-0000-0000-0000-000000000000",
                "workers": 1,
            },
            "health_manager": {"heartbeat_key": SECRET},
            "oslo_concurrency": self._locks(),
        }


ML2: Sections = {
    "ml2": {
        "type_drivers": "local",
        "tenant_network_types": "local",
        "mechanism_drivers": "openstacklab",
        "extension_drivers": "port_security",
    },
    "securitygroup": {"enable_security_group": "true"},
}


def _packaged(service: str, name: str) -> Path:
    """A file that came with a service's package."""
    return Path(sys.prefix, "etc", service, name)
