# SPDX-License-Identifier: Apache-2.0
"""Documents that are wrong, and what a person is told about each.

The deployment has a host db1 in the group db with the address 192.168.7.5/24, and a token that
grants the group web. Each message has to be one line that says where, what and what would be right.
"""

NESTED = "x: " + "[" * 25 + "]" * 25
BOMB = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"


def vpn(spec: str, name: str = "backbone") -> str:
    """A document with one VPN."""
    return f"deployment: shop\nvpn:\n  {name}: {spec}\n"


NAME = "use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or a digit"
NAMES = "is not a name: " + NAME

WRONG: dict[str, tuple[str, str]] = {
    # what: (document, message)
    "empty file": ("", "the document is empty (begin with 'deployment: NAME')"),
    "only a comment": ("# nothing\n", "the document is empty (begin with 'deployment: NAME')"),
    "a list": (
        "- deployment: shop\n",
        "line 1: the document is not a mapping (begin with 'deployment: NAME')",
    ),
    "a word": (
        "shop\n",
        "line 1: the document is not a mapping (begin with 'deployment: NAME')",
    ),
    "no deployment": (
        "vpn: {}\n",
        "line 1: deployment: a name is needed (write 'deployment: NAME')",
    ),
    "deployment without a name": (
        "deployment:\n",
        "line 1: deployment: a name is needed (write 'deployment: NAME')",
    ),
    "deployment is a number": (
        "deployment: 7\n",
        "line 1: deployment: 7 is a number, not a name (put it in quotes)",
    ),
    "two documents": (
        "deployment: shop\n---\ndeployment: lab\n",
        "line 2: a second document begins here (one file holds one document)",
    ),
    "not YAML": (
        "deployment: shop\nvpn: {backbone: [}\n",
        "line 2: not YAML: while parsing a flow node, did not find expected node content "
        "(check indentation, quotes and colons there)",
    ),
    "indented with a tab": (
        "deployment: shop\nvpn:\n\tbackbone: {}\n",
        "line 3: not YAML: while scanning for the next token, found character that cannot start "
        "any token (check indentation, quotes and colons there)",
    ),
    "not UTF-8": (
        "deployment: shop\n# caf\udce9\n",
        "line 2: '\\udce9' is not a character of a text (take it out, and save the file as UTF-8)",
    ),
    "a control character": (
        "deployment: shop\nvpn: {a\x07b: {}}\n",
        "line 2: '\\x07' is not a character of a text (take it out, and save the file as UTF-8)",
    ),
    "10 MB": (
        "deployment: shop\n" + "#" * 10_000_000,
        "the document has 10,000,017 characters, at most 1,000,000 are read "
        "(use groups and sets instead of single entries)",
    ),
    "nested deeply": (
        f"deployment: shop\n{NESTED}\n",
        "line 2: nested deeper than 20 levels",
    ),
    "a bomb": (
        f"deployment: shop\n{BOMB}",
        "line 3: YAML aliases are not accepted (write it out)",
    ),
    "a tag": (
        "deployment: !!python/name:os.system shop\n",
        "line 1: YAML tags are not accepted (leave the tag out)",
    ),
    "a key twice": (
        "deployment: shop\nvpn:\n  a: {cidr: 10.66.0.0/16}\n  a: {cidr: 10.67.0.0/16}\n",
        "line 4: vpn.a: the key 'a' stands twice, first in line 3 (join the two)",
    ),
    "a key twice, deep": (
        "deployment: shop\nvpn:\n  a:\n    cidr: 10.66.0.0/16\n    mtu: 1400\n    cidr: fd66::/64",
        "line 6: vpn.a.cidr: the key 'cidr' stands twice, first in line 4 (join the two)",
    ),
    "a list as key": (
        "deployment: shop\n? [a, b]\n: c\n",
        "line 2: a key must be a word",
    ),
    "unknown service": (
        "deployment: shop\nvnp: {a: {}}\n",
        "line 2: vnp: no such service (did you mean 'vpn'? known: deployment, firewall, "
        "loadbalancer, vpn)",
    ),
    "service without instances": (
        "deployment: shop\nvpn: backbone\n",
        "line 2: vpn: named instances are expected (vpn: {NAME: ...})",
    ),
    "instance that is a word": (
        "deployment: shop\nvpn: {backbone: yes please}\n",
        "line 2: vpn.backbone: keys and values are expected",
    ),
    "capital letters": (vpn("{}", "Backbone"), f"line 3: vpn.Backbone: 'Backbone' {NAMES}"),
    "look-alike letter": (
        vpn("{}", "b\u0430ckbone"),  # a Cyrillic a
        f"line 3: vpn.b\\u0430ckbone: 'b\\u0430ckbone' {NAMES}",
    ),
    "line break in a name": (
        vpn("{}", '"back\\nbone"'),
        f"line 3: vpn.back\\nbone: 'back\\nbone' {NAMES}",
    ),
    "terminal escape in a name": (
        vpn("{}", '"\\e[2Jbackbone"'),
        f"line 3: vpn.\\x1b[2Jbackbone: '\\x1b[2Jbackbone' {NAMES}",
    ),
    "a name of 64 letters": (
        vpn("{}", "a" * 64),
        f"line 3: vpn.{'a' * 64}: '{'a' * 64}' {NAMES}",
    ),
    "empty name": (vpn("{}", '""'), f"line 3: vpn.: '' {NAMES}"),
    "dots in a name": (vpn("{}", "a.b"), f"line 3: vpn.a.b: 'a.b' {NAMES}"),
    "no cidr": (vpn("{}"), "line 3: vpn.backbone.cidr: this key is needed"),
    "no network": (
        vpn("{cidr: office}"),
        "line 3: vpn.backbone.cidr: 'office' is not a network: write address/prefix, "
        "as 10.66.0.0/16",
    ),
    "an octet too large": (
        vpn("{cidr: 10.666.0.0/16}"),
        "line 3: vpn.backbone.cidr: '10.666.0.0/16' is not a network: write address/prefix, "
        "as 10.66.0.0/16",
    ),
    "look-alike digit": (
        vpn("{cidr: 1\u0660.66.0.0/16}"),
        "line 3: vpn.backbone.cidr: '1\\u0660.66.0.0/16' is not an address",
    ),
    "host bits": (
        vpn("{cidr: 10.66.0.1/16}"),
        "line 3: vpn.backbone.cidr: 10.66.0.1/16 has host bits set: did you mean 10.66.0.0/16?",
    ),
    "no prefix length": (
        vpn("{cidr: 10.66.0.0}"),
        "line 3: vpn.backbone.cidr: 10.66.0.0 has no prefix length: write address/prefix, "
        "as 10.66.0.0/16",
    ),
    "prefix length 33": (
        vpn("{cidr: 10.66.0.0/33}"),
        "line 3: vpn.backbone.cidr: '10.66.0.0/33' is not a network: write address/prefix, "
        "as 10.66.0.0/16",
    ),
    "a number as network": (
        vpn("{cidr: 10.66}"),
        "line 3: vpn.backbone.cidr: an address or a network is expected, as 10.66.0.0/16",
    ),
    "two IPv4 networks": (
        vpn("{cidr: [10.66.0.0/16, 10.67.0.0/16]}"),
        "line 3: vpn.backbone.cidr: at most one network of each IP version",
    ),
    "three networks": (
        vpn("{cidr: [10.66.0.0/16, 10.67.0.0/16, 'fd66::/64']}"),
        "line 3: vpn.backbone.cidr: at most 2 can be given",
    ),
    "no room": (
        vpn("{cidr: 10.66.0.0/31}"),
        "line 3: vpn.backbone.cidr: 10.66.0.0/31 has no room for two hosts (take a /30 or larger)",
    ),
    "multicast": (
        vpn("{cidr: 224.0.0.0/24}"),
        "line 3: vpn.backbone.cidr: 224.0.0.0/24 cannot be used for hosts (take a private network)",
    ),
    "the whole internet": (
        vpn("{cidr: 0.0.0.0/0}"),
        "line 3: vpn.backbone.cidr: 0.0.0.0/0 cannot be used for hosts (take a private network)",
    ),
    "overlap with the underlay": (
        vpn("{cidr: 192.168.0.0/16}"),
        "line 3: vpn.backbone.cidr: 192.168.0.0/16 overlaps 192.168.7.0/24, the underlay of host "
        "db1 (take a private network that no member's own network overlaps)",
    ),
    "overlap with another VPN": (
        "deployment: shop\nvpn:\n  a: {cidr: 10.66.0.0/16}\n"
        "  b: {cidr: 10.66.128.0/17, listen_port: 51821}\n",
        "line 4: vpn.b.cidr: 10.66.128.0/17 overlaps 10.66.0.0/16 of the VPN a "
        "(give each VPN a network of its own)",
    ),
    "a port twice": (
        "deployment: shop\nvpn:\n  a: {cidr: 10.66.0.0/16}\n  b: {cidr: 10.67.0.0/16}\n",
        "line 4: vpn.b.listen_port: UDP port 51820 is used by the VPN a "
        "(write listen_port: 51821, or another free port)",
    ),
    "unknown key": (
        vpn("{cdir: 10.66.0.0/16, cidr: 10.66.0.0/16}"),
        "line 3: vpn.backbone.cdir: unknown key (did you mean 'cidr'? known: cidr, driver, "
        "driver_options, hub, keepalive, listen_port, members, mtu, quarantine, relay, "
        "rotate_after, routes, topology)",
    ),
    "unknown key of a route": (
        vpn("{cidr: 10.66.0.0/16, routes: [{subnet: 10.9.0.0/16, by: db1, via: db1}]}"),
        "line 3: vpn.backbone.routes.0.by: unknown key (known: subnet, via)",
    ),
    "a route without gateway": (
        vpn("{cidr: 10.66.0.0/16, routes: [{subnet: 10.9.0.0/16}]}"),
        "line 3: vpn.backbone.routes.0.via: this key is needed",
    ),
    "default route": (
        vpn("{cidr: 10.66.0.0/16, routes: [{subnet: 0.0.0.0/0, via: db1}]}"),
        "line 3: vpn.backbone.routes: a default route through the VPN is not supported",
    ),
    "a subnet routed twice": (
        vpn(
            "{cidr: 10.66.0.0/16, routes: [{subnet: 10.9.0.0/16, via: db1}, "
            "{subnet: 10.9.0.0/16, via: db2}]}"
        ),
        "line 3: vpn.backbone.routes: 10.9.0.0/16 leads to db1 and to db2 (keep one of the two)",
    ),
    "a route inside the VPN": (
        vpn("{cidr: 10.66.0.0/16, routes: [{subnet: 10.66.1.0/24, via: db1}]}"),
        "line 3: vpn.backbone.routes: 10.66.1.0/24 overlaps the VPN's own 10.66.0.0/16",
    ),
    "unknown group": (
        vpn("{cidr: 10.66.0.0/16, members: [wbe]}"),
        "line 3: vpn.backbone.members: no host is in the group 'wbe' and no token grants it "
        "(did you mean 'web'? known: all, db, web)",
    ),
    "a group that is no name": (
        vpn("{cidr: 10.66.0.0/16, members: [Web Servers]}"),
        f"line 3: vpn.backbone.members.0: 'Web Servers' {NAMES}",
    ),
    "no members": (
        vpn("{cidr: 10.66.0.0/16, members: []}"),
        "line 3: vpn.backbone.members: at least 1 is needed",
    ),
    "unknown driver": (
        vpn("{cidr: 10.66.0.0/16, driver: wiregaurd}"),
        "line 3: vpn.backbone.driver: no driver 'wiregaurd' "
        "(did you mean 'wireguard'? known: noop, openvpn, wireguard)",
    ),
    "unknown topology": (
        vpn("{cidr: 10.66.0.0/16, topology: star}"),
        "line 3: vpn.backbone.topology: 'star' is none of 'mesh' or 'hub'",
    ),
    "hub without group": (
        vpn("{cidr: 10.66.0.0/16, topology: hub}"),
        "line 3: vpn.backbone.hub: topology: hub needs a group whose hosts carry it "
        "(write hub: GROUP)",
    ),
    "hub in a mesh": (
        vpn("{cidr: 10.66.0.0/16, hub: db}"),
        "line 3: vpn.backbone.hub: is for topology: hub (in a mesh, use relay)",
    ),
    "relay with a hub": (
        vpn("{cidr: 10.66.0.0/16, topology: hub, hub: db, relay: web}"),
        "line 3: vpn.backbone.relay: is for topology: mesh; a hub relays everything (leave it out)",
    ),
    "port 0": (
        vpn("{cidr: 10.66.0.0/16, listen_port: 0}"),
        "line 3: vpn.backbone.listen_port: 0 is too small: at least 1",
    ),
    "port 65536": (
        vpn("{cidr: 10.66.0.0/16, listen_port: 65536}"),
        "line 3: vpn.backbone.listen_port: 65536 is too large: at most 65535",
    ),
    "a port in words": (
        vpn("{cidr: 10.66.0.0/16, listen_port: many}"),
        "line 3: vpn.backbone.listen_port: 'many' is not a whole number",
    ),
    "an mtu too small for IPv6": (
        vpn("{cidr: 'fd66::/64', mtu: 1000}"),
        "line 3: vpn.backbone.mtu: 1000 is too small: IPv6 needs at least 1280 (RFC 8200)",
    ),
    "a negative life time": (
        vpn("{cidr: 10.66.0.0/16, rotate_after: -1}"),
        "line 3: vpn.backbone.rotate_after: -1 is too small: at least 0",
    ),
    "an option that the driver does not know": (
        vpn(
            "{cidr: 10.66.0.0/16, driver: openvpn, topology: hub, hub: db, "
            "driver_options: {protcol: tcp}}"
        ),
        "line 3: vpn.backbone.driver_options.protcol: unknown key "
        "(driver_options of openvpn: protocol, port, cipher)",
    ),
    "a topology that the driver cannot realise": (
        vpn("{cidr: 10.66.0.0/16, driver: openvpn}"),
        "line 3: vpn.backbone.topology: the driver openvpn cannot do the topology mesh "
        "(it can do: hub; or choose another driver)",
    ),
    "a list as option": (
        vpn("{cidr: 10.66.0.0/16, driver_options: {a: [1]}}"),
        "line 3: vpn.backbone.driver_options.a: true or false, a number or a word is expected",
    ),
    "an option that is no name": (
        vpn("{cidr: 10.66.0.0/16, driver_options: {'a;b': 1}}"),
        f"line 3: vpn.backbone.driver_options.a;b: 'a;b' {NAMES}",
    ),
}
