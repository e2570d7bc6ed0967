# SPDX-License-Identifier: Apache-2.0
"""Faults of the underlay, made in the lab's router: a VM cut off, or with a line that
loses packets; two sites parted.

Links stay up, as in a cloud whose network fails; a fault outlasts the reboot of a VM.
"""

from __future__ import annotations

from cnsmo.lab.network import Network
from cnsmo.lab.topology import ROUTER
from cnsmo.model.errors import InvalidRequest

RULES = """
table bridge cnsmo_lab {
  set cut { type ifname
  }
  set lossy { type ifname
  }
  chain in { type filter hook prerouting priority filter
  }
  chain out { type filter hook postrouting priority filter
  }
}
table ip cnsmo_lab {
  set parted { type ifname . ifname
  }
  chain forward { type filter hook forward priority filter
  }
}
flush chain bridge cnsmo_lab in
flush chain bridge cnsmo_lab out
flush chain ip cnsmo_lab forward
add rule bridge cnsmo_lab in iifname @cut drop
add rule bridge cnsmo_lab out oifname @cut drop
add rule bridge cnsmo_lab in iifname @lossy numgen random mod 100 < 10 drop
add rule bridge cnsmo_lab out oifname @lossy numgen random mod 100 < 10 drop
add rule ip cnsmo_lab forward iifname . oifname @parted drop
"""
"""One transaction, the same whether it is there already or not."""


class Faults:
    """What can be broken in a lab's network, and mended again. All methods are idempotent."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def cut(self, vm: str) -> None:
        """Drop all that goes from and to a VM's port (its NAT box's, behind NAT)."""
        self._change(f"add {self._port(vm)}")

    def restore(self, vm: str) -> None:
        """End of `cut`."""
        self._change(f"add {self._port(vm)}\ndelete {self._port(vm)}")

    def lose(self, vm: str) -> None:
        """Drop one packet of ten, by chance, of those that go from or to a VM's port."""
        self._change(f"add {self._port(vm, 'lossy')}")

    def keep(self, vm: str) -> None:
        """End of `lose`."""
        self._change(f"add {self._port(vm, 'lossy')}\ndelete {self._port(vm, 'lossy')}")

    def partition(self, one: str, other: str) -> None:
        """Drop all that goes between two sites; the core, where there is one, is ``core``."""
        self._change(f"add {self._between(one, other)}")

    def heal(self, one: str, other: str) -> None:
        """End of `partition`."""
        between = self._between(one, other)
        self._change(f"add {between}\ndelete {between}")

    def _port(self, vm: str, among: str = "cut") -> str:
        return f"element bridge cnsmo_lab {among} {{ {self._network.plan.seat(vm).port} }}"

    def _between(self, one: str, other: str) -> str:
        a, b = (f"br{self._network.plan.site_number(site)}" for site in (one, other))
        if a == b:
            raise InvalidRequest(f"{one} and {other} are one site: name two, or cut VMs")
        return f"element ip cnsmo_lab parted {{ {a} . {b}, {b} . {a} }}"

    def _change(self, elements: str) -> None:
        self._network.system(ROUTER).run("nft", "-f", "-", stdin=f"{RULES}{elements}\n")
