# SPDX-License-Identifier: Apache-2.0
"""The part of the boot that user-data carries: on a machine that only pretends."""

import ast
import hashlib
import http.server
import json
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnsmo.boot import first

Given = dict[str, Any]


class Server:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], str]] = []
        self.answers: list[tuple[int, bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                status, text = outer.answers.pop(0) if outer.answers else (200, b"")
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = _do  # noqa: N815  # as the library asks

            def log_message(self, *_args: Any) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What would have been run; nothing is, and no program is there but apt-get and python3."""
    words: list[list[str]] = []

    def run(given: list[str], **_how: Any) -> SimpleNamespace:
        words.append(list(given))
        if "venv" in given:
            Path(given[-1]).mkdir()
        failed = given[0] == "modprobe"
        return SimpleNamespace(returncode=int(failed), stdout="")

    here = {"apt-get", "python3"}
    monkeypatch.setattr(first.subprocess, "run", run)
    monkeypatch.setattr(first.shutil, "which", lambda name: name if name in here else None)
    exists, python = os.path.exists, f"/usr/bin/python3.{sys.version_info[1]}"
    monkeypatch.setattr(first.os.path, "isdir", lambda _path: False)
    monkeypatch.setattr(first.os.path, "exists", lambda path: path == python or exists(path))
    monkeypatch.setattr(first, "VENV", str(tmp_path / "venv"))
    monkeypatch.setattr(first, "POLICY", str(tmp_path / "policy-rc.d"))
    monkeypatch.setattr(first, "PAUSE", 0.01)
    (tmp_path / "venv").mkdir()
    return words


def given(**values: str) -> Given:
    return dict.fromkeys(first.PATTERNS, "") | {"role": "agent", "services": "vpn"} | values


def shown(words: list[list[str]], program: str) -> list[list[str]]:
    return [line for line in words if line[0] == program]


def test_it_needs_nothing_but_a_python_of_39() -> None:
    text = Path(first.__file__).read_text()
    ast.parse(text, feature_version=(3, 9))
    assert "import cnsmo" not in text
    assert "from cnsmo" not in text


@pytest.mark.parametrize(
    ("services", "wanted"),
    [
        ("vpn", {"iproute2", "wireguard-tools", "wireguard-go"}),
        ("vpn/openvpn", {"iproute2", "openvpn"}),
        ("firewall", {"iproute2", "nftables", "conntrack"}),
        ("loadbalancer", {"iproute2", "haproxy"}),
        ("loadbalancer/nftables", {"iproute2", "nftables", "conntrack"}),
        ("loadbalancer,loadbalancer/vip", {"iproute2", "haproxy", "keepalived"}),
        ("other", {"iproute2"}),
    ],
)  # fmt: skip
def test_only_what_the_services_need_is_installed(
    ran: list[list[str]], services: str, wanted: set[str]
) -> None:
    assert set(first.packages(given(services=services))) == wanted


def test_a_core_has_a_broker(ran: list[list[str]]) -> None:
    assert first.packages(given(role="core")) == ["rabbitmq-server", "iproute2"][::-1]


def test_where_everything_is_there_nothing_is_installed(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "venv" / "bin" / "cnsmo-boot"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(first.shutil, "which", lambda name: name)
    first.install(given())
    assert not shown(ran, "apt-get")
    assert not [line for line in ran if "pip" in line]


def test_daemons_of_packages_do_not_run_beside_cnsmo(ran: list[list[str]]) -> None:
    first.install_packages(["haproxy", "wireguard-tools"])
    (_update, install) = shown(ran, "apt-get")
    assert install[-3:] == ["--no-install-recommends", "haproxy", "wireguard-tools"]
    assert shown(ran, "systemctl") == [["systemctl", "disable", "--now", "haproxy.service"]]


def test_no_package_starts_its_daemon_while_it_is_installed(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = tmp_path / "policy-rc.d"
    seen = []
    monkeypatch.setattr(first, "run", lambda *words: seen.append((words[1], policy.exists())))
    first.install_packages(["rabbitmq-server"])
    assert seen == [("apt-get", False), ("apt-get", True)]
    assert not policy.exists()
    policy.write_text("of somebody else")
    first.install_packages(["rabbitmq-server"])
    assert policy.read_text() == "of somebody else"


def test_other_distributions_have_other_names(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first.shutil, "which", lambda name: name if name == "dnf" else None)
    first.install_packages(["iproute2", "conntrack"])
    assert shown(ran, "dnf")[0][-2:] == ["iproute", "conntrack-tools"]


def test_without_a_package_manager_it_says_what_is_missing(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first.shutil, "which", lambda _name: None)
    with pytest.raises(
        first.Failed, match="missing here, and there is no apt-get or dnf: nftables"
    ):
        first.install_packages(["nftables"])


REQUIREMENTS = b"cnsmo==0.1.0 --hash=sha256:00\n"


def pinned(server: Server, **values: str) -> Given:
    digest = hashlib.sha256(REQUIREMENTS).hexdigest()
    url = f"{server.url}/requirements.txt"
    return given(requirements=url, requirements_sha256=digest, **values)


def test_every_file_that_is_installed_is_pinned(ran: list[list[str]], server: Server) -> None:
    server.answers = [(503, b""), (200, REQUIREMENTS)]
    wanted = pinned(server, wheelhouse=f"{server.url}/")
    first.install(wanted)
    (venv,) = [line for line in ran if "venv" in line]
    (pip,) = [line for line in ran if "--require-hashes" in line]
    assert venv == ["python3", "-m", "venv", "--without-pip", first.VENV]
    assert {"--only-binary", "--no-index"} <= set(pip)
    assert pip[pip.index("--trusted-host") + 1] in server.url
    ran.clear()
    first.install(wanted)
    assert not [line for line in ran if line[0] == "python3" and "-m" in line], "not again"


ARCHIVE = b"an archive"


def with_archive(server: Server, archive: bytes = ARCHIVE) -> Given:
    """A wheelhouse that has one for the Python that these tests pretend to have."""
    tag = f"cp3{sys.version_info[1]}-{platform.machine()}"
    text = REQUIREMENTS + f"# {tag} a.tar.gz {hashlib.sha256(ARCHIVE).hexdigest()}\n".encode()
    server.answers = [(200, text), (200, archive)]
    digest = hashlib.sha256(text).hexdigest()
    house = f"{server.url}/wheels/"
    return given(requirements=f"{house}r", requirements_sha256=digest, wheelhouse=house)


def test_what_is_installed_already_is_unpacked_and_needs_no_pip(
    ran: list[list[str]], server: Server
) -> None:
    first.install(with_archive(server))
    assert shown(ran, "tar")[0][:3] == ["tar", "-C", first.VENV]
    assert [path for _method, path, *_rest in server.asked] == ["/wheels/r", "/wheels/a.tar.gz"]
    assert not [line for line in ran if "pip" in line or "python3-pip" in line]


def test_an_archive_with_another_digest_is_refused(ran: list[list[str]], server: Server) -> None:
    with pytest.raises(first.Failed, match="another SHA-256 than the requirements say"):
        first.install(with_archive(server, b"evil"))
    assert not shown(ran, "tar")


def test_other_requirements_than_the_pinned_ones_are_refused(
    ran: list[list[str]], server: Server
) -> None:
    server.answers = [(200, b"evil\n")]
    with pytest.raises(first.Failed, match="has another SHA-256 than cnsmo_requirements_sha256"):
        first.requirements(pinned(server))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "CNSMO is not in this image"),
        ({"requirements": "/x"}, "is given without cnsmo_requirements_sha256"),
        ({"requirements": "/does/not/exist", "requirements_sha256": "0" * 64}, "No such file"),
    ],
)
def test_what_is_missing_is_said(values: Given, told: str) -> None:
    with pytest.raises(first.Failed, match=told):
        first.requirements(given(**values))


def test_a_source_that_nobody_serves_is_named(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr(first, "PATIENCE", 0.0)
    wanted = pinned(server)
    server.close()
    with pytest.raises(
        first.Failed, match=r"/requirements.txt cannot be fetched: Connection refused"
    ):
        first.requirements(wanted)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("requirements", "file:///etc/passwd"),
        ("requirements", "--index-url=http://evil"),
        ("wheelhouse", "/a b"),
        ("index", "http://a/$(x)"),
        ("index", "http://a/\nx"),
        ("services", "vpn,--x"),
        ("services", "-o"),
        ("requirements_sha256", "zz"),
        ("role", "king"),
        ("signal", "gopher://x/"),
        ("signal_token", "a\r\nX-Other: b"),
    ],
)  # fmt: skip
def test_no_value_becomes_a_word_of_a_command_that_is_none(name: str, value: str) -> None:
    with pytest.raises(first.Failed, match=f"cnsmo_{name} is not what it should be"):
        first.check(given(**{name: value}))


@pytest.fixture
def boots(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., int]:
    """Runs the whole, with an outcome of cnsmo-boot."""
    path = tmp_path / "boot.json"
    monkeypatch.setattr(first, "PARAMETERS", str(path))
    monkeypatch.setattr(first, "install", lambda _given: None)

    def boot(told: Given | None = None, **values: str) -> int:
        path.write_text(json.dumps(given(**values)))
        outcome = {"data": ""} if told is None else told
        monkeypatch.setattr(first, "go_on", lambda: outcome)
        return first.main([])

    return boot


def heard(server: Server) -> tuple[str, Given, dict[str, str]]:
    ((method, _path, headers, body),) = server.asked
    return method, json.loads(body), headers


def test_success_is_told_and_secrets_are_gone(
    boots: Callable[..., int], server: Server, tmp_path: Path
) -> None:
    assert boots({"data": "told"}, signal=f"{server.url}/x/signal", signal_token="abc") == 0
    method, body, headers = heard(server)
    assert (method, body["status"], body["data"]) == ("POST", "SUCCESS", "told")
    assert headers["X-Auth-Token"] == "abc"
    assert not (tmp_path / "boot.json").exists()
    assert first.main([]) == 0, "the next boot has nothing to do"
    assert len(server.asked) == 1


def test_failure_is_told_with_its_reason_and_is_tried_again_at_the_next_boot(
    boots: Callable[..., int], server: Server, tmp_path: Path
) -> None:
    url = f"{server.url}/v1/waitcondition/arn?Signature=x"
    assert boots({"reason": "the join token is not valid"}, signal=url) == 1
    method, body, _headers = heard(server)
    assert (method, body["Status"]) == ("PUT", "FAILURE")
    assert body["Reason"].endswith(": the join token is not valid")
    assert (tmp_path / "boot.json").exists()


def test_the_reason_is_left_for_cloud_init_to_show_once_its_last_stage_is_over(
    boots: Callable[..., int],
    ran: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert boots({"reason": "no core answers"}) == 1
    (unit,) = shown(ran, "systemd-run")
    assert "--property=After=cloud-final.service" in unit
    status = tmp_path / "status.json"
    failed = "('scripts-per-boot', RuntimeError('Runparts: 1 failures'))"
    status.write_text(json.dumps({"v1": {"stage": None, "modules-final": {"errors": [failed]}}}))
    monkeypatch.setattr(first, "STATUS", str(status))
    assert first.main(unit[-2:]) == 0
    errors = json.loads(status.read_text())["v1"]["modules-final"]["errors"]
    assert errors == [failed, "cnsmo-boot: no core answers"]


def test_a_wrong_parameter_is_told_to_who_waits(boots: Callable[..., int], server: Server) -> None:
    assert boots(signal=f"{server.url}/", index="nonsense") == 1
    assert "the parameter cnsmo_index is not what it should be" in heard(server)[1]["reason"]


def test_success_that_nobody_hears_is_none(boots: Callable[..., int], server: Server) -> None:
    server.answers = [(404, b"")]
    assert boots(signal=f"{server.url}/") == 1


def test_a_crash_is_told_too(
    boots: Callable[..., int], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first, "install", lambda _given: 1 / 0)
    assert boots(signal=f"{server.url}/") == 1
    assert "unforeseen ZeroDivisionError" in heard(server)[1]["reason"]


def test_what_pip_said_last_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Looking\nERROR: No matching distribution found for cnsmo==9\n"
    outcome = SimpleNamespace(returncode=1, stdout=said)
    monkeypatch.setattr(first.subprocess, "run", lambda *_words, **_how: outcome)
    with pytest.raises(first.Failed, match="CNSMO cannot be installed: ERROR: No matching"):
        first.run("CNSMO", "pip")


def test_a_program_that_says_no_json_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(first, "VENV", str(tmp_path))
    program = tmp_path / "bin" / "cnsmo-boot"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho oops; exit 3\n")
    program.chmod(0o755)
    assert "ended with 3" in first.go_on()["reason"]
