# SPDX-License-Identifier: Apache-2.0
"""Where a lab is: its directory, its network namespace, its addresses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

SECRET = "lab"
"""Of every account in there; nobody but this machine reaches them."""
REGION = "RegionOne"


@dataclasses.dataclass(frozen=True)
class Options:
    """What a lab is made of. ``virt``: fake, or libvirt (QEMU without KVM)."""

    virt: str = "fake"
    octavia: bool = False


@dataclasses.dataclass(frozen=True)
class Place:
    """A lab's directory, and what follows from its path."""

    directory: Path

    @property
    def mark(self) -> str:
        """Six characters that no other directory's lab has."""
        return hashlib.sha256(str(self.directory).encode()).hexdigest()[:6]

    @property
    def number(self) -> int:
        """The third part of its addresses."""
        return int(self.mark, 16) % 254 + 1

    @property
    def netns(self) -> str:
        """All of it lives in this network namespace."""
        return f"cnsmo-os-{self.mark}"

    @property
    def near(self) -> str:
        """This machine's address on the way there. 198.18.0.0/15 is for labs (RFC 2544)."""
        return f"198.18.{self.number}.1"

    @property
    def api(self) -> str:
        """Where all APIs are, for this machine and for guests."""
        return f"198.18.{self.number}.2"

    @property
    def floating(self) -> str:
        """The network of floating IPs."""
        return f"198.19.{self.number}.0/24"

    @property
    def auth_url(self) -> str:
        """Keystone's."""
        return f"http://{self.api}:5000/v3"

    def path(self, *parts: str) -> Path:
        """A file or directory of it."""
        return self.directory.joinpath(*parts)

    def folder(self, *parts: str, mode: int = 0o755) -> Path:
        """A directory of it, that is there."""
        found = self.path(*parts)
        found.mkdir(mode=mode, parents=True, exist_ok=True)
        return found

    def remember(self, options: Options) -> None:
        """For those who come later."""
        self.path("options.json").write_text(json.dumps(dataclasses.asdict(options)))

    def remembered(self) -> Options | None:
        """What it was started with; None: it is not there."""
        there = self.path("options.json")
        return Options(**json.loads(there.read_text())) if there.exists() else None

    def clouds_yaml(self) -> str:
        """For openstacksdk: a cloud ``lab`` for users, and ``lab-admin``."""
        clouds = {name: self._cloud(user) for name, user in CLOUDS.items()}
        return json.dumps({"clouds": clouds}, indent=1)

    def _cloud(self, user: str) -> dict[str, object]:
        auth = {
            "auth_url": self.auth_url,
            "username": user,
            "password": SECRET,
            "project_name": "admin" if user == "admin" else "demo",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        return {"auth": auth, "region_name": REGION, "identity_api_version": 3}


CLOUDS = {"lab": "demo", "lab-admin": "admin"}
"""Users by the name of the cloud in clouds.yaml."""
