# SPDX-License-Identifier: Apache-2.0
"""What user-data tells a VM: texts, because Nova's server metadata are; each with its alphabet.

They are checked where they enter (``cnsmo-manage userdata``) and again on the VM, before one of
them is written anywhere. A name here is ``cnsmo_NAME`` in the metadata.
"""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cnsmo.boot import first
from cnsmo.model.names import check_address, check_group, check_label
from cnsmo.trust.keys import check_fingerprint

MAX_METADATA = 255
"""Characters of a value of Nova's server metadata."""
SIGNAL_PARTS, TOKEN_PARTS = 4, 2
"""Into how many metadata a signal's URL and token may be cut: they are longer than one."""
VOLUME_ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def _of(pattern: str, meant: str, secret: bool = False) -> AfterValidator:
    """Only what matches as a whole; what is secret is not shown."""
    known = re.compile(pattern)

    def check(value: str) -> str:
        if not known.fullmatch(value):
            shown = "" if secret else f"{ascii(value)[:80]}: "
            raise ValueError(f"{shown}{meant} is expected")
        return value

    return AfterValidator(check)


def _or_nothing(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda value: check(value) if value else "")


def _listed(check: Callable[[str], Any]) -> AfterValidator:
    """Several, with commas between them; none is fine."""

    def every(value: str) -> str:
        for item in value.split(",") if value else ():
            check(item)
        return value

    return AfterValidator(every)


def _check_join_url(value: str) -> str:
    parts = urllib.parse.urlsplit(value)
    plain = re.fullmatch(r"https://[A-Za-z0-9.:\[\]-]{1,255}", value)
    with contextlib.suppress(ValueError):
        if plain and parts.hostname and parts.port != 0:
            return value
    raise ValueError(f"{ascii(value)[:80]}: https://ADDRESS:PORT of cnsmo-core is expected")


def _check_place(value: str) -> str:
    """A host's name or address."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", value):
        return value
    return check_address(value)


def _check_volume(value: str) -> str:
    if not re.fullmatch(rf"/dev/[A-Za-z0-9/_.+:-]{{1,200}}|{VOLUME_ID}", value):
        raise ValueError(f"{ascii(value)[:80]}: a volume's id or a device is expected")
    return value


def _check_grant(value: str) -> str:
    name, _, uses = value.partition("=")
    check_group(name)
    if not re.fullmatch(r"[1-9][0-9]{0,4}", uses):
        raise ValueError(f"{ascii(value)[:80]}: GROUP=USES is expected, as web=2")
    return value


def _check_service(value: str) -> str:
    if not re.fullmatch(first.SERVICE, value):
        raise ValueError(f"{ascii(value)[:80]}: SERVICE or SERVICE/DRIVER is expected")
    check_label(value.partition("/")[0])
    return value


def _number(value: str) -> str:
    """Seconds, up to a year."""
    if not re.fullmatch(r"[1-9][0-9]{0,7}", value):
        raise ValueError(f"{ascii(value)[:80]}: a number of seconds is expected")
    return value


Url = Annotated[str, _of(rf"({first.URL})?", "an http(s) URL")]
Place = Annotated[str, _of(rf"({first.URL}|{first.PLACE})?", "a URL or an absolute path")]
Digest = Annotated[str, _of(r"([0-9a-f]{64})?", "a SHA-256 of 64 hexadecimal digits")]
Seconds = Annotated[str, AfterValidator(_number)]


class Parameters(BaseModel):
    """What every VM is told. Empty: not given.

    ``requirements``: a requirements file of pip's with a digest for every package, and its own
    SHA-256; empty where CNSMO is in the image. ``wheelhouse``, ``index``: where pip finds the
    packages. ``signal``: who waits for the outcome. ``wait``: for how many seconds the VM has time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    requirements: Place = ""
    requirements_sha256: Digest = ""
    wheelhouse: Place = ""
    index: Url = ""
    signal: Annotated[Url, Field(max_length=SIGNAL_PARTS * MAX_METADATA)] = ""
    signal_token: Annotated[str, _of(r"[A-Za-z0-9._~=+/-]*", "a token", secret=True)] = ""
    wait: Seconds = "900"


class AgentParameters(Parameters):
    """What a VM with agents is told.

    ``core``, ``ca``, ``token``: where to join, whom to believe there, and the invitation.
    ``services``: SERVICE or SERVICE/DRIVER, which decides what is installed; all else as in the
    group [host] of the configuration. ``leave``: whether a VM that is shut down leaves.
    """

    role: Literal["agent"] = "agent"
    core: Annotated[str, AfterValidator(_check_join_url)]
    ca: Annotated[str, AfterValidator(check_fingerprint)]
    token: Annotated[str, _of(r"[A-Za-z0-9._-]{1,200}", "a join token", secret=True)]
    services: Annotated[str, _listed(_check_service)] = "vpn,firewall,loadbalancer"
    name: Annotated[str, _or_nothing(check_label)] = ""
    site: Annotated[str, _or_nothing(check_label)] = ""
    public: Annotated[str, _listed(check_address)] = ""
    nat: Literal["", "true", "false"] = ""
    leave: Literal["", "shutdown"] = ""


class CoreParameters(Parameters):
    """What a VM with a core is told.

    ``deployment``, ``groups``: the first deployment, and tokens for it (GROUP=USES), which live for
    ``token_life`` seconds. ``address``: where agents reach the core; empty: its own first address.
    ``volume``: the block device of its state, or the volume's id; empty: the root disk.
    """

    role: Literal["core"] = "core"
    deployment: Annotated[str, _or_nothing(check_label)] = ""
    groups: Annotated[str, _listed(_check_grant)] = ""
    token_life: Seconds = "7200"
    address: Annotated[str, _or_nothing(_check_place)] = ""
    volume: Annotated[str, _or_nothing(_check_volume)] = ""


ROLES: dict[str, type[AgentParameters] | type[CoreParameters]] = {
    "agent": AgentParameters,
    "core": CoreParameters,
}
