# SPDX-License-Identifier: Apache-2.0
"""TLS: versions, names, clients' certificates, and certificates that change, end or vanish."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import Bind, LoadBalancerDesired, Mode, Server, Tls
from tests.functional.loadbalancer.hap_scene import Scene, desired
from tests.functional.loadbalancer.pem import Authority, names_of, private
from tests.functional.vpn.systems import Recorder

VERSIONS = ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3")
HTTPS = (Bind("", 443),)


class Shop:
    """A load balancer with TLS, and its certificates."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self.folder = folder
        self.authority = Authority("Test")
        self.paths = [
            self.authority.issue(folder / "first.pem", "first.example"),
            self.authority.issue(folder / "second.pem", "second.example", bits=2048),
            self.authority.issue(folder / "wild.pem", "*.wild.example"),
        ]
        scene.serve(1)

    def desired(self, *servers: Server, **other: Any) -> LoadBalancerDesired:
        """What is TLS's goes to TLS."""
        known = {key: other.pop(key) for key in ("minimum", "client_ca", "redirects")
                 if key in other}  # fmt: skip
        tls = Tls(tuple(map(str, self.paths)), **known)
        servers = servers or self.scene.servers(1)
        return desired(*servers, **{"binds": HTTPS, "tls": tls, **other})

    def ask(self, **tls: Any) -> dict[str, Any]:
        """One request; options of TLS."""
        return self.scene.ask(port=443, tls=tls)

    def shown(self, name: str | None = None) -> list[str]:
        """For whom the certificate is that a client is shown."""
        return names_of(self.ask(name=name)["certificate"])


@pytest.fixture
def shop(scene: Scene, tmp_path: Path) -> Shop:
    return Shop(scene, tmp_path)


@pytest.mark.parametrize("minimum", ["1.2", "1.3"])
def test_no_version_below_the_minimum_is_spoken(shop: Shop, minimum: str) -> None:
    shop.scene.settle(shop.desired(minimum=minimum))
    spoken = {it: shop.ask(version=it)["status"] == 200 for it in VERSIONS}
    assert spoken == {
        "TLSv1": False, "TLSv1_1": False, "TLSv1_2": minimum == "1.2", "TLSv1_3": True,
    }  # fmt: skip
    assert shop.ask()["version"] == "TLSv1.3"


def test_ciphers_keep_what_was_said_secret_later_too(shop: Shop) -> None:
    shop.scene.settle(shop.desired())
    for cipher, good in (
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES128-SHA", False),
        ("AES128-GCM-SHA256", False),
        ("DES-CBC3-SHA", False),
    ):
        answer = shop.ask(version="TLSv1_2", ciphers=f"{cipher}:@SECLEVEL=0")
        assert (answer["status"] == 200) is good, cipher


def test_each_name_has_its_certificate_and_the_first_is_for_the_others(shop: Shop) -> None:
    shop.scene.settle(shop.desired())
    assert shop.shown("second.example") == ["second.example"]
    assert shop.shown("a.wild.example") == ["*.wild.example"]
    assert shop.shown("first.example") == ["first.example"]
    assert shop.shown("unknown.example") == ["first.example"]
    assert shop.shown() == ["first.example"]


def test_servers_are_told_that_it_was_https(shop: Shop) -> None:
    shop.scene.settle(shop.desired())
    answer = shop.ask(alpn=["http/1.1"])
    assert answer["said"]["headers"]["x-forwarded-proto"] == "https"
    assert answer["alpn"] == "http/1.1"
    assert shop.ask(alpn=["h2"], handshake=True)["alpn"] == "h2"


def test_connections_end_their_tls_here_too(shop: Shop) -> None:
    shop.scene.settle(shop.desired(mode=Mode.TCP))
    assert shop.ask()["status"] == 200
    assert shop.shown("second.example") == ["second.example"]


@pytest.mark.parametrize(("port", "where"), [(443, ""), (8443, ":8443")])
def test_plain_requests_are_sent_on(shop: Shop, port: int, where: str) -> None:
    shop.scene.settle(shop.desired(binds=(Bind("", port),), redirects=(Bind("", 80),)))
    answer = shop.scene.ask("/a?b=c", headers={"Host": "first.example:80"}, method="POST")
    assert answer["status"] == 308
    assert answer["headers"]["location"] == f"https://first.example{where}/a?b=c"


def test_clients_without_the_right_certificate_are_turned_away(shop: Shop) -> None:
    strangers = Authority("Strangers")
    good = shop.authority.issue(shop.folder / "good.pem", "client")
    bad = strangers.issue(shop.folder / "bad.pem", "client")
    path = shop.authority.write(shop.folder / "ca.pem")
    shop.scene.settle(shop.desired(client_ca=str(path)))
    assert shop.ask(certificate=str(good))["status"] == 200
    assert shop.ask(certificate=str(bad))["status"] == 0
    assert shop.ask()["status"] == 0
    strangers.write(path)
    assert shop.scene.observe(shop.desired(client_ca=str(path))).drift
    shop.scene.apply(shop.desired(client_ca=str(path)))
    assert shop.ask(certificate=str(good))["status"] == 0
    assert shop.ask(certificate=str(bad))["status"] == 200


def test_a_renewed_certificate_is_used_without_a_request_lost(shop: Shop) -> None:
    wanted = shop.desired()
    shop.scene.settle(wanted)
    assert shop.scene.observe(wanted).problems == ()
    with shop.scene.load(port=443, tls={}) as counted:
        shop.authority.issue(shop.paths[0], "renewed.example")
        assert shop.scene.observe(wanted).drift
        assert shop.scene.apply(wanted) == []  # it is no drift that was repaired
        assert shop.scene.observe(wanted).drift == ()
        assert shop.shown() == ["renewed.example"]
    assert counted[0].lost == {}
    assert shop.scene.apply(wanted) == []
    copies = list((shop.scene.state_dir / "certificates").iterdir())
    assert len(copies) == 4  # of the earlier one nothing is left
    assert list(shop.scene.observe(wanted).detail["certificates"]) == [str(it) for it in shop.paths]


def test_certificates_that_end_are_told(shop: Shop) -> None:
    shop.authority.issue(shop.paths[0], "first.example", days=-1)
    shop.authority.issue(shop.paths[1], "second.example", days=10.5)
    wanted = shop.desired()
    shop.scene.settle(wanted)
    first, second = shop.scene.observe(wanted).problems
    assert first.startswith(f"certificate {shop.paths[0]} expired on ")
    assert second.startswith(f"certificate {shop.paths[1]} expires in 10 days, on ")
    assert shop.ask()["status"] == 200


def spoil(shop: Shop, how: str) -> str:
    """Make a mess of the first certificate; what is said of it."""
    path, text = shop.paths[0], shop.paths[0].read_text()
    stranger = ec.generate_private_key(ec.SECP256R1())
    if how == "gone":
        path.unlink()
        return "cannot be read: No such file or directory"
    if how == "weak":
        shop.authority.issue(path, "weak.example", bits=1024)
        return "has an RSA key of 1024 bits; 2048 are needed"
    texts = {
        "empty": ("", "has no certificate that can be read"),
        "torn": (text[:300], "has no certificate that can be read"),
        "no key": (text[: text.index("-----BEGIN PRIVATE")], "has no private key"),
        "another's key": (
            text[: text.index("-----BEGIN PRIVATE")] + private(stranger),
            "has a private key that does not belong to its first certificate",
        ),
        "locked": (
            text[: text.index("-----BEGIN PRIVATE")] + private(stranger, "secret"),
            "has a private key with a passphrase",
        ),
    }
    spoilt, said = texts[how]
    path.write_text(spoilt)
    return said


@pytest.mark.parametrize(
    "how", ["gone", "empty", "torn", "no key", "another's key", "locked", "weak"]
)
def test_a_spoilt_certificate_is_told_and_its_last_good_copy_stays(shop: Shop, how: str) -> None:
    wanted = shop.desired()
    shop.scene.settle(wanted)
    said = spoil(shop, how)
    shop.scene.fresh()
    assert shop.scene.apply(wanted) == []
    assert shop.scene.observe(wanted).problems == (
        f"certificate {shop.paths[0]} {said}; its last good copy stays in use",
    )
    assert shop.scene.observe(wanted).drift == ()
    assert shop.shown() == ["first.example"]


def test_without_any_good_certificate_it_says_so(shop: Shop) -> None:
    spoil(shop, "gone")
    wanted = shop.desired()
    shop.scene.settle(wanted)
    (problem,) = shop.scene.observe(wanted).problems
    assert problem == f"certificate {shop.paths[0]} cannot be read: No such file or directory"
    assert shop.shown() == ["second.example"]
    shop.scene.driver.remove()
    for path in shop.paths[1:]:
        path.unlink()
    with pytest.raises(DriverError, match=r"wild\.pem cannot be read"):
        shop.scene.apply(wanted)


def refusable(shop: Shop) -> None:
    """A certificate that is sound, and that haproxy does not take."""
    weak = ec.generate_private_key(ec.SECP192R1())
    shop.authority.issue(shop.paths[0], "weak.example", key=weak)


def test_a_certificate_that_haproxy_refuses_never_replaces_what_runs(shop: Shop) -> None:
    wanted = shop.desired()
    shop.scene.settle(wanted)
    before, workers = shop.scene.config, shop.scene.workers
    refusable(shop)
    for _ in range(2):
        assert shop.scene.apply(wanted) == []
        assert shop.scene.observe(wanted).drift == ()
        assert shop.scene.observe(wanted).problems == (
            f"certificate {shop.paths[0]} is refused by haproxy; its last good copy stays in use",
        )
        shop.scene.fresh()
    assert (shop.scene.config, shop.scene.workers) == (before, workers)
    assert shop.shown() == ["first.example"]


def test_a_certificate_that_haproxy_refuses_holds_up_no_other_change(shop: Shop) -> None:
    wanted = shop.desired()
    shop.scene.settle(wanted)
    refusable(shop)
    other = dataclasses.replace(wanted, max_connections=77)
    assert shop.scene.apply(other)
    assert "maxconn 77" in shop.scene.config
    assert shop.shown() == ["first.example"]
    shop.authority.issue(shop.paths[0], "new.example")
    shop.scene.apply(other)
    assert shop.shown() == ["new.example"]
    assert shop.scene.observe(other).problems == ()


def test_where_all_certificates_are_refused_it_says_why(shop: Shop) -> None:
    refusable(shop)
    del shop.paths[1:]
    wanted = shop.desired()
    with pytest.raises(DriverError, match="is refused by haproxy"):
        shop.scene.apply(wanted)


def test_copies_that_were_touched_are_made_again(shop: Shop) -> None:
    wanted = shop.desired()
    shop.scene.settle(wanted)
    for path in (shop.scene.state_dir / "certificates").iterdir():
        path.write_text("spoilt")
    assert shop.scene.observe(wanted).drift
    shop.scene.apply(wanted)
    assert shop.scene.observe(wanted).drift == ()
    shop.scene.driver._instance.stop()
    shop.scene.settle(wanted)
    assert shop.shown() == ["first.example"]


def test_keys_are_in_no_arguments_and_no_logs(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    recorder = Recorder(shop.scene.carrier.system)
    shop.scene.fresh(recorder)
    wanted = shop.desired()
    shop.scene.settle(wanted)
    seen = [" ".join(args) for args in recorder.commands] + recorder.outputs
    seen += [caplog.text, shop.scene.log, str(shop.scene.observe(wanted))]
    assert not any("PRIVATE" in text for text in seen)
