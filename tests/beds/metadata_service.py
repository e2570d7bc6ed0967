# SPDX-License-Identifier: Apache-2.0
"""A cloud's metadata service as Nova's is: tells each VM, by its address, what is written for it.

Also serves directories, and takes the signals that VMs send to a wait condition.
usage: metadata_service.py DIRECTORY
"""

import functools
import http.server
import json
import sys
from pathlib import Path
from typing import Any

VERSIONS = ["2018-08-27", "latest"]
ADDRESS = ("169.254.169.254", 80)


class Handler(http.server.SimpleHTTPRequestHandler):
    """``instances.json`` has the VMs, ``signals`` is where signals go; links lead to the rest."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # as the library asks
        path = self.path.partition("?")[0].strip("/")
        if Path(self.directory, path.partition("/")[0] or ".").is_symlink():
            super().do_GET()
            return
        known = json.loads(Path(self.directory, "instances.json").read_text())
        answer = answered(known.get(self.client_address[0], {}), path.split("/"))
        self._answer(200 if answer is not None else 404, answer or "")

    def do_POST(self) -> None:  # as the library asks
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        line = {"who": self.path.rpartition("/")[2], "body": json.loads(body)}
        with Path(self.directory, "signals").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._answer(200, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def answered(instance: dict[str, Any], path: list[str]) -> str | None:
    """What a VM is told about itself; None: that is not there."""
    match path:
        case ["openstack"]:
            return "\n".join(VERSIONS)
        case ["openstack", version] if version in VERSIONS:
            return "\n".join(instance)
        case ["openstack", version, name] if version in VERSIONS and name in instance:
            told = instance[name]
            return told if isinstance(told, str) else json.dumps(told)
        case [""]:
            return "latest"
        case ["latest", "meta-data"]:
            return "\n".join(instance.get("ec2", {}))
        case ["latest", "meta-data", name]:
            return instance.get("ec2", {}).get(name)
    return None


if __name__ == "__main__":
    serve = functools.partial(Handler, directory=sys.argv[1])
    http.server.ThreadingHTTPServer(ADDRESS, serve).serve_forever()
