# SPDX-License-Identifier: Apache-2.0
"""Notes each secret that a program makes, and what the program starts: see tests/hunting.py.

Python imports it by itself into every program that has this directory on PYTHONPATH. Secrets are
noted where chance becomes one (Python's and cryptography's makers), so that a new kind is known
without a word here, and where one is derived from another.
"""

import functools
import importlib.abc
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

PLACE = os.environ.get("CNSMO_SPY", "")
"""Directory of the notes."""
LOUD = bool(os.environ.get("CNSMO_SPY_LOUD"))
"""Whether programs log all that they can."""
Change = Callable[[Any], None]
after_setup: list[Callable[[], None]] = []
"""Called when a program has set up its logs."""
_started: set[str] = set()


def note(kind: str, *words: str) -> None:
    """Append a line to this process's notes of that kind; whoever may not write there is mute."""
    path, flags = f"{PLACE}/{kind}.{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        os.write(fd, (json.dumps(words) + "\n").encode())
    finally:
        os.close(fd)


def noted(make: Callable[..., Any], texts: Callable[[Any], Iterator[str]]) -> Callable[..., Any]:
    """The same maker, but what it makes is noted, by the function that wanted it."""

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        value, frame = make(*args, **kwargs), sys._getframe(1)
        for text in texts(value):
            note("made", f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}", text)
        return value

    return made


def _word(value: Any) -> Iterator[str]:
    yield value.decode() if isinstance(value, bytes) else value


def _raw(key: Any) -> Iterator[str]:
    import base64

    yield base64.b64encode(key.private_bytes_raw()).decode()


def _pem(key: Any) -> Iterator[str]:
    from cryptography.hazmat.primitives import serialization as to

    for form in (to.PrivateFormat.PKCS8, to.PrivateFormat.TraditionalOpenSSL):
        yield key.private_bytes(to.Encoding.PEM, form, to.NoEncryption()).decode()


def _function(name: str, texts: Callable[[Any], Iterator[str]]) -> Change:
    def change(module: Any) -> None:
        _replace(name, getattr(module, name), texts)

    return change


def _replace(name: str, make: Callable[..., Any], texts: Callable[[Any], Iterator[str]]) -> None:
    """In its module, and in all that have imported it by its name already."""
    made = noted(make, texts)
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(name) is make:
            setattr(module, name, made)


def _random(module: Any) -> None:
    for name in ("token_hex", "token_urlsafe"):
        _replace(name, getattr(module, name), _word)


def _class_method(of: str, name: str, texts: Callable[[Any], Iterator[str]]) -> Change:
    def change(module: Any) -> None:
        found = getattr(module, of)
        setattr(found, name, staticmethod(noted(getattr(found, name), texts)))

    return change


def _loud(module: Any) -> None:
    setup = module.setup

    @functools.wraps(setup)
    def louder(*args: Any, **kwargs: Any) -> None:
        setup(*args, **kwargs)
        make_loud()

    module.setup = louder


def make_loud() -> None:
    """Let every logger that there is tell what it can."""
    logging.getLogger().setLevel(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.NOTSET)
    for call in after_setup:
        call()


ASYMMETRIC = "cryptography.hazmat.primitives.asymmetric"
CHANGES: dict[str, Change] = {
    "secrets": _random,
    "cryptography.fernet": _class_method("Fernet", "generate_key", _word),
    f"{ASYMMETRIC}.ec": _function("generate_private_key", _pem),
    f"{ASYMMETRIC}.rsa": _function("generate_private_key", _pem),
    f"{ASYMMETRIC}.x25519": _class_method("X25519PrivateKey", "generate", _raw),
    "cnsmo.state.secrets": _function("derived", _word),
    "cnsmo.bus.brokers.rabbitmq_layout": _function("derived_password", _word),
}


class Finder(importlib.abc.MetaPathFinder):
    """Changes modules as they are imported."""

    def __init__(self, changes: dict[str, Change]) -> None:
        self._changes = dict(changes)
        for name in [name for name in changes if name in sys.modules]:
            self._changes.pop(name)(sys.modules[name])

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        change = self._changes.pop(name, None)
        spec = importlib.util.find_spec(name) if change else None
        if spec is None or spec.loader is None or change is None:
            return None
        execute = spec.loader.exec_module

        def changed(module: Any) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = changed  # type: ignore[method-assign]
        return spec


def _on_event(event: str, told: tuple[Any, ...]) -> None:
    """What a program is started with: its arguments and its environment."""
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
        arguments, env = told[1], told[-1]
        arguments = [arguments] if isinstance(arguments, str | bytes) else arguments
        values = [*arguments, *(env or {}).values()]
        text = "\0".join(os.fsdecode(value) for value in values)
        if text not in _started:
            _started.add(text)
            note("started", text)


def install() -> None:
    """From now on."""
    changes = {**CHANGES, "oslo_log.log": _loud} if LOUD else CHANGES
    sys.meta_path.insert(0, Finder(changes))
    sys.addaudithook(_on_event)


if PLACE:
    install()
