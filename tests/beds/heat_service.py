# SPDX-License-Identifier: Apache-2.0
"""Heat's API and Keystone's, as far as a core that follows its stack asks them.

What they say is proven against Heat's own engine by tests/heat/test_following.py.
usage: heat_service.py ADDRESS DIRECTORY
"""

import http.server
import json
import sys
from pathlib import Path
from typing import Any

PORT = 8004
PROJECT, STACK, RESOURCE = "p1", "shop/s1", "follower"


def seat(address: str, resource: str = RESOURCE) -> dict[str, str]:
    """What Heat tells of a resource, to who asks it or signals it."""
    url = f"http://{address}:{PORT}/v3"
    user = {"auth_url": url, "user_id": "u1", "password": "password-of-u1", "project_id": PROJECT}
    return {**user, "stack_id": STACK, "resource_name": resource, "region_name": "West"}


class Handler(http.server.BaseHTTPRequestHandler):
    """``metadata.json`` is the resource's, ``answers`` is where signals go."""

    place: Path
    address: str

    def do_GET(self) -> None:  # as the library asks
        asked = f"/v1/{PROJECT}/stacks/{STACK}/resources/{RESOURCE}/metadata"
        if self.path != asked or self.headers["X-Auth-Token"] != "token":
            self._answer(404, {})
            return
        self._answer(200, {"metadata": json.loads((self.place / "metadata.json").read_text())})

    def do_POST(self) -> None:  # as the library asks
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v3/auth/tokens":
            url = f"http://{self.address}:{PORT}/v1/{PROJECT}"
            endpoint = {"interface": "public", "region": "West", "url": url}
            catalog = [{"type": "orchestration", "endpoints": [endpoint]}]
            self._answer(201, {"token": {"catalog": catalog}})
            return
        with (self.place / "answers").open("a") as file:
            file.write(json.dumps({"path": self.path, "body": body}) + "\n")
        self._answer(200, None)

    def _answer(self, status: int, told: Any) -> None:
        text = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("X-Subject-Token", "token")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    Handler.address, Handler.place = sys.argv[1], Path(sys.argv[2])
    http.server.ThreadingHTTPServer((Handler.address, PORT), Handler).serve_forever()
