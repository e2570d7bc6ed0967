# SPDX-License-Identifier: Apache-2.0
"""Symptoms of certificates, and of the authority that makes them."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import oslo_messaging
import sqlalchemy as sa
from cryptography import x509

from cnsmo.bus import transport
from cnsmo.bus.depth import tls_options
from cnsmo.doctor.site import Site
from cnsmo.doctor.symptom import Finding, critical, few, warning
from cnsmo.model.errors import CnsmoError
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.tables import DEPLOYMENTS, IDENTITIES
from cnsmo.trust import authority, certificates

PATIENCE = 5.0
"""Seconds for a connection."""
DAY = datetime.timedelta(days=1)
LATE = 0.25
"""Of a host's certificate: less than that is left, and it should have been renewed before."""
AMQPS = 5671
Bounds = tuple[datetime.timedelta, datetime.timedelta]
"""How long before its end: to look after, and to act on."""
AUTHORITY, CORE, BROKER = (60 * DAY, 14 * DAY), (5 * DAY, DAY), (14 * DAY, 3 * DAY)


def authority_away(site: Site) -> Iterator[Finding]:
    """The certificate authority is not there, or no core lets hosts join by it.

    Nobody can join, and no certificate is renewed; who has joined goes on until its own ends. The
    authority is a file in [join] ca_directory: restore it from the backup, or copy it from another
    core; 'cnsmo-manage ca init' makes the first. Is cnsmo-core running, and [join] listen and port
    free for it?
    """
    group = site.conf.join
    if not group.listen:
        return
    try:
        trusted = authority.load(Path(group.ca_directory)).bundle(_now())
    except CnsmoError as exc:
        yield critical(str(exc))
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trusted)
    try:
        _shown((_reachable(group.listen), group.port), context, certificates.CORE_NAME)
    except OSError as exc:
        yield critical(f"no core lets hosts join at port {group.port} of this machine: {exc}")


def certificate_ends(site: Site) -> Iterator[Finding]:
    """A certificate is about to end, or has ended.

    The authority's: 'cnsmo-manage ca rotate' replaces it, with an overlap. A core's and the
    broker's of a core's own are renewed by themselves: restart cnsmo-core, see that
    cnsmo-broker.timer runs. Another broker's: whoever made it makes a new one. A host's is renewed
    by its agent after two thirds of its life: is the agent running, and what does its log say? One
    that has ended: a fresh token into [agent] token_file on that VM.
    """
    yield from _of_authority(site)
    yield from _of_core(site)
    yield from _of_broker(site)
    yield from _of_hosts(site)


def judged(whose: str, ends: datetime.datetime, bounds: Bounds) -> Iterator[Finding]:
    """What there is to say of a certificate that ends then."""
    left, (soon, now) = ends - _now(), bounds
    told = f"{whose} ends on {ends:%Y-%m-%d %H:%M} UTC"
    if left <= datetime.timedelta():
        yield critical(told.replace(" ends ", " has ended "))
    elif left < now:
        yield critical(told)
    elif left < soon:
        yield warning(told)


def _of_authority(site: Site) -> Iterator[Finding]:
    with contextlib.suppress(CnsmoError):  # which authority_away tells of
        ca = authority.load(Path(site.conf.join.ca_directory))
        yield from judged(
            "the certificate authority", ca.certificate.not_valid_after_utc, AUTHORITY
        )


def _of_core(site: Site) -> Iterator[Finding]:
    group = site.conf.join
    if not group.listen:
        return
    with contextlib.suppress(OSError):
        found = _shown((_reachable(group.listen), group.port), _anybody())
        yield from judged("the certificate of this core", found.not_valid_after_utc, CORE)


def _of_broker(site: Site) -> Iterator[Finding]:
    """Of each address that is used with TLS; ours that we show there, too."""
    urls = {site.conf.bus.url, site.conf.bus.agents_url} - {""}
    for url in sorted(it for it in urls if not transport.is_in_process(site.conf, it)):
        transport.calls(site.conf)  # so that the driver's options are registered
        parsed = oslo_messaging.TransportURL.parse(site.conf, url)
        options = tls_options(site.conf, parsed)
        if not options:
            continue
        context = _anybody()
        if "certfile" in options:
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
            mine = x509.load_pem_x509_certificate(Path(options["certfile"]).read_bytes())
            told = f"the certificate in {options['certfile']}"
            yield from judged(told, mine.not_valid_after_utc, BROKER)
        for host in parsed.hosts:
            place = host.hostname, host.port or AMQPS
            with contextlib.suppress(OSError):  # which broker_away tells of
                found = _shown(place, context)
                told = f"the certificate of the broker at {place[0]}:{place[1]}"
                yield from judged(told, found.not_valid_after_utc, BROKER)


def _of_hosts(site: Site) -> Iterator[Finding]:
    life = datetime.timedelta(seconds=site.conf.join.certificate_life)
    now = utc_now()
    query = (
        sa.select(DEPLOYMENTS.c.name, IDENTITIES.c.host, IDENTITIES.c.expires_at)
        .join_from(IDENTITIES, DEPLOYMENTS)
        .where(IDENTITIES.c.revoked_at.is_(None), IDENTITIES.c.expires_at < now + life * LATE)
    )
    with transaction(site.engine()) as connection:
        records = connection.execute(query).all()
    ended = {f"{it.name}/{it.host}" for it in records if it.expires_at <= now}
    late = {f"{it.name}/{it.host}" for it in records} - ended
    if ended:
        yield critical(f"certificates have ended of {few(ended)}")
    if late:
        yield warning(f"certificates end soon, and are not renewed, of {few(late)}")


def _shown(
    place: tuple[str, int], context: ssl.SSLContext, name: str | None = None
) -> x509.Certificate:
    """The certificate that who listens there shows.

    :raises OSError: when nobody does, or the certificate is not believed.
    """
    raw = socket.create_connection(place, PATIENCE)
    with contextlib.closing(context.wrap_socket(raw, server_hostname=name or place[0])) as wrapped:
        found = wrapped.getpeercert(binary_form=True)
    if found is None:
        raise OSError("it shows no certificate")
    return x509.load_der_x509_certificate(found)


def _anybody() -> ssl.SSLContext:
    """Only looks: who believes it is not decided here."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def _reachable(listen: str) -> str:
    """Where to call what listens there."""
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        return listen
    if not address.is_unspecified:
        return listen
    return "::1" if address.version == 6 else "127.0.0.1"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
