# SPDX-License-Identifier: Apache-2.0
"""A client, run by its path: ``hap_client.py ask|hear|load OPTIONS``, options and answers as JSON.

``ask`` makes one request after the other, each on a connection of its own, unless told to keep it.
``hear`` sends some text and waits for the end of what comes back.
``load`` asks all the time until its standard input ends, and counts what it did not get.
"""

import collections
import contextlib
import http.client
import json
import socket
import ssl
import sys
import threading
import time
from typing import Any

FAILURES = (OSError, http.client.HTTPException)


def connect(options: dict[str, Any]) -> http.client.HTTPConnection:
    """A connection, not made yet."""
    address, port = options["address"], options["port"]
    timeout = options.get("timeout", 10)
    source = (options["source"], 0) if "source" in options else None
    made = http.client.HTTPConnection(address, port, timeout, source)
    made.connect()
    if "proxy" in options:
        made.sock.sendall(options["proxy"].encode("latin-1"))
    if "tls" in options:
        made.sock = _tls(options["tls"]).wrap_socket(
            made.sock, server_hostname=options["tls"].get("name")
        )
    return made


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if "ca" in options else ssl.CERT_NONE
    context.set_ciphers(options.get("ciphers", "ALL:@SECLEVEL=0"))
    if "ca" in options:
        context.load_verify_locations(options["ca"])
    if "certificate" in options:
        context.load_cert_chain(options["certificate"])
    version = options.get("version")
    if version:
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if options.get("alpn"):
        context.set_alpn_protocols(options["alpn"])
    return context


def ask(options: dict[str, Any]) -> list[dict[str, Any]]:
    """So many answers, or what happened instead."""
    answers = []
    kept = None
    for _ in range(options.get("count", 1)):
        try:
            connection = kept or connect(options)
            kept = connection if options.get("keep") else None
            answers.append(_one(connection, options))
            if not kept:
                connection.close()
        except FAILURES as exc:
            kept = None
            answers.append({"status": 0, "error": f"{type(exc).__name__}: {exc}"})
        time.sleep(options.get("pause", 0))
    return answers


def _one(connection: http.client.HTTPConnection, options: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if isinstance(connection.sock, ssl.SSLSocket):
        shown["version"] = connection.sock.version()
        shown["alpn"] = connection.sock.selected_alpn_protocol()
        found = connection.sock.getpeercert(binary_form=True)
        shown["certificate"] = ssl.DER_cert_to_PEM_cert(found) if found else ""
    if options.get("tls", {}).get("handshake"):
        return shown
    method, body = options.get("method", "GET"), options.get("body")
    connection.request(method, options.get("path", "/"), body, options.get("headers", {}))
    answer = connection.getresponse()
    text = answer.read()
    shown["status"] = answer.status
    shown["headers"] = {key.lower(): value for key, value in answer.getheaders()}
    shown["length"] = len(text)
    with contextlib.suppress(ValueError):
        shown["said"] = json.loads(text)
    return shown


def hear(options: dict[str, Any]) -> dict[str, Any]:
    """The answer's status (0: none), and after how many seconds there was an end."""
    begun = time.monotonic()
    connection = connect(options)
    connection.sock.sendall(options["sent"].encode())
    text = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.sock.recv(65536):
            text += more
    status = int(text.split()[1]) if text else 0
    return {"status": status, "seconds": time.monotonic() - begun}


class Load:
    """Counts; what is asked again by nobody and has no answer of a server is lost."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.sent = 0
        self.lost: collections.Counter[str] = collections.Counter()
        self.by: collections.Counter[str] = collections.Counter()
        self.last = time.monotonic()
        self.gap = 0.0

    def run(self) -> dict[str, Any]:
        """Until standard input ends."""
        modes = [True] * self._options["kept"] + [False] * self._options["fresh"]
        threads = [threading.Thread(target=self._ask, args=(mode,)) for mode in modes]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        sys.stdin.read()
        self._stop.set()
        for thread in threads:
            thread.join()
        self.gap = max(self.gap, time.monotonic() - self.last)
        return {"sent": self.sent, "lost": self.lost, "by": self.by, "gap": self.gap}

    def _ask(self, keep: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        turn = 0
        while not self._stop.is_set():
            turn += 1
            body = b"x" * 100 if self._options.get("posts") and turn % 5 == 0 else None
            options = {**self._options, "method": "POST" if body else "GET", "body": body}
            reused = connection is not None
            try:
                connection = connection or connect(options)
                answer = _one(connection, options)
                why = "" if answer["status"] == 200 else str(answer["status"])
                self._count(why, answer["headers"].get("x-backend", "nobody"))
                if not keep or answer["headers"].get("connection") == "close" or why:
                    connection.close()
                    connection = None
            except FAILURES as exc:
                self._count(f"{type(exc).__name__}: {exc} ({'re' if reused else 'not re'}used)", "")
                connection = None
            time.sleep(self._options.get("pause", 0))

    def _count(self, why: str, name: str) -> None:
        with self._lock:
            self.sent += 1
            if why:
                self.lost[why] += 1
                return
            self.by[name] += 1
            now = time.monotonic()
            self.gap = max(self.gap, now - self.last)
            self.last = now


def main(what: str, text: str) -> None:
    """Do it, and print it."""
    options = json.loads(text)
    kinds: dict[str, Any] = {"ask": ask, "hear": hear, "load": lambda it: Load(it).run()}
    print(json.dumps(kinds[what](options)), flush=True)


if __name__ == "__main__":
    socket.setdefaulttimeout(10)
    main(*sys.argv[1:])
