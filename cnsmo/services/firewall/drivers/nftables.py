# SPDX-License-Identifier: Apache-2.0
"""The nftables driver: one table of our own, ``inet cnsmo``; no other is ever touched.

A member that comes or goes is one element more or less of a set, and nothing is loaded anew. Every
other change is another ruleset, loaded beside the one in force, and on trial (see nft_trial) from
the one moment on in which the kernel turns from one to the other; why so, says guard.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oslo_log import log

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.base import Observation, System
from cnsmo.services.firewall.always import fallback
from cnsmo.services.firewall.desired import FirewallDesired
from cnsmo.services.firewall.driver import FirewallDriver
from cnsmo.services.firewall.drivers import nft_report
from cnsmo.services.firewall.drivers.guard import SLOTS
from cnsmo.services.firewall.drivers.nft_cuts import Cuts
from cnsmo.services.firewall.drivers.nft_flows import concerns, end_flows, permission
from cnsmo.services.firewall.drivers.nft_kernel import (
    Table,
    bring_in,
    check_text,
    delete_table,
    load_text,
    read_table,
    replace,
    stage,
    sweep,
)
from cnsmo.services.firewall.drivers.nft_memory import Memory
from cnsmo.services.firewall.drivers.nft_render import (
    Delta,
    Renderer,
    Ruleset,
    Ways,
    difference,
)
from cnsmo.services.firewall.drivers.nft_trial import Trials
from cnsmo.services.firewall.drivers.nft_ways import CoreWays
from cnsmo.services.kit.private_files import remove_tree

LOG = log.getLogger(__name__)
PROBE = """table inet cnsmo {
	chain input {
		type filter hook input priority filter; policy accept;
		ct state established,related accept
	}
}
"""


class NftablesDriver(FirewallDriver):
    """The firewall of this host in the kernel."""

    name = "nftables"

    def __init__(self, system: System, unit: str, label: str, state_dir: Path) -> None:
        super().__init__(system, unit, label, state_dir)
        self._renderer = Renderer(label)
        self._ways = CoreWays(system, state_dir)
        self._memory = Memory(state_dir)
        self._trials = Trials(system, state_dir)
        self._loaded: Ruleset | None = None
        """What this process loaded last; only to save reading it back before one more element."""
        self._unseen: tuple[str, str] | None = None
        """Fingerprint and text of what this process loaded and did not look at since."""
        self._able = False
        """Whether the kernel took a ruleset of ours since something failed the last time."""
        self._slot = SLOTS[0]
        """Of the ruleset that was loaded or looked at last."""
        self._cuts = Cuts(state_dir)
        self._unswept = False
        """Whether this process left in the kernel what it replaced."""

    def check(self) -> None:
        if not self.system.has("nft"):
            raise DriverUnavailable("nft is missing: install the package nftables")
        if self._able:
            return
        try:
            check_text(self.system, PROBE)
        except ProgramError as exc:
            raise DriverUnavailable(
                "the kernel takes no nftables ruleset: a kernel with nf_tables and connection "
                f"tracking is needed, and the package nftables ({exc})"
            ) from exc
        self._able = True

    def apply(self, desired: FirewallDesired) -> list[str]:
        changes = self.enforce(desired)
        self.follow_up(desired)
        return changes

    def enforce(self, desired: FirewallDesired) -> list[str]:
        with self._speaking(), self._trials.lock():
            ways = self._ways.find()
            wanted = self._renderer.render(desired, ways)
            fingerprint = wanted.structure.fingerprint
            if reason := self._refusal(fingerprint):
                self._keep_good()
                raise DriverError(reason)
            changes = self._give_up_unguarded()
            pending = self._trials.pending
            current = pending.fingerprint if pending else self._trials.good_fingerprint
            if fingerprint == current:
                self._trials.pardon()
                return changes + self._keep(wanted)
            return changes + self._replace(desired, wanted, ways)

    def follow_up(self, desired: FirewallDesired) -> None:
        with self._speaking():
            if self._unswept:
                with self._trials.lock():
                    sweep(self.system)
                self._unswept = False
            # Flows are ended without the lock: a guard whose time has come waits for nobody.
            if self._cuts.due:
                self._cut(desired, self._ways.find())
            self._trials.stand_by()
            if self._loaded and (reason := self._refusal(self._loaded.structure.fingerprint)):
                raise DriverError(reason)  # the trial was shorter than all this took

    def _refusal(self, fingerprint: str) -> str:
        """Why a structure is refused here, if it is."""
        refused = self._trials.refused
        return refused.reason if refused and refused.fingerprint == fingerprint else ""

    def observe(self, desired: FirewallDesired) -> Observation:
        with self._speaking():
            wanted = self._renderer.render(desired, self._ways.find())
            structure = wanted.structure
            table = self._look()
            pending = self._trials.guarded
            if reason := self._refusal(structure.fingerprint):
                return self._observe_refused(reason, wanted)
            shown: dict[str, Any] = nft_report.detail(table, structure.places, wanted)
            if pending:
                left = max(0.0, pending.deadline - time.monotonic())
                shown["trial"] = {"seconds_left": round(left, 1), "since": pending.since}
            remembered = self._memory.recall(structure.fingerprint)
            return Observation(drift=nft_report.drift(table, remembered, wanted), detail=shown)

    def trial(self) -> float | None:
        pending = self._trials.guarded
        return max(0.0, pending.deadline - time.monotonic()) if pending else None

    def confirm(self) -> bool:
        if self._trials.guarded is None:
            return False
        with self._speaking(), self._trials.lock():
            self._see()
            if not self._trials.confirm():
                return False
            self._memory.forget(self._trials.good_fingerprint)
        LOG.info("%s: the ruleset is confirmed", self.label)
        return True

    def remove(self) -> None:
        with self._speaking():
            self._trials.end_guards()
            self._trials.dismiss_guard()
            if self.system.has("nft"):
                delete_table(self.system)
        self._loaded = None
        remove_tree(self.state_dir)

    def _keep(self, wanted: Ruleset) -> list[str]:
        """The structure stays: elements are changed one by one, what else differs as a whole."""
        there = self._there(wanted)
        self._loaded = None
        delta = difference(there.sets, wanted.sets) if there else None
        if delta and self._change(delta):
            changes = delta.told
        else:
            delta = None
            self._load(wanted.text, wanted.structure.fingerprint)
            changes = ["the ruleset is loaded again"]
        if changes or self._trials.saved != wanted.text:
            self._save(wanted)
        self._loaded = wanted
        if delta is None or delta.gone:
            self._cuts.ask(delta)
        return changes

    def _there(self, wanted: Ruleset) -> Ruleset | None:
        """What is in force, if its structure is as wanted; None: it is not, or nobody knows."""
        structure = wanted.structure
        known = self._loaded
        same = known is not None and known.structure.fingerprint == structure.fingerprint
        if known and same and known.sets != wanted.sets:
            return known
        table = self._read_swept()
        if table and table.objects == self._memory.recall(structure.fingerprint):
            return Ruleset(structure, table.sets)
        return None

    def _read_swept(self) -> Table | None:
        """What is in force; what a process left that was killed half-way is swept away."""
        table = self._look()
        if table and not table.swept:
            sweep(self.system)
        return table

    def _change(self, delta: Delta) -> bool:
        """Change elements; False where what is there is not what was thought to be."""
        try:
            if delta.gone or delta.come:
                load_text(self.system, delta.text(self._slot))
        except ProgramError as exc:
            LOG.info("%s: elements cannot be changed one by one: %s", self.label, exc)
            return False
        return True

    def _replace(self, desired: FirewallDesired, wanted: Ruleset, ways: Ways) -> list[str]:
        """Another structure: as a whole, on trial unless it is the last good one."""
        self._loaded = None
        known_good = wanted.structure.fingerprint == self._trials.good_fingerprint
        if known_good:
            self._load(wanted.text, wanted.structure.fingerprint)
            self._trials.drop()
            self._trials.save_good(wanted)
            said = "the last good ruleset is back, with today's members"
        else:
            self._try(desired, wanted, ways)
            said = f"the ruleset is replaced, on trial for {desired.confirm} s"
        pending = self._trials.pending
        self._trials.end_guards(but=pending.id if pending else None)
        self._trials.pardon()
        self._memory.forget(self._trials.good_fingerprint, wanted.structure.fingerprint)
        self._loaded = wanted
        self._cuts.ask(None)
        return [said]

    def _try(self, desired: FirewallDesired, wanted: Ruleset, ways: Ways) -> None:
        """Load under the eyes of the guard, then bring in force."""
        self._see()
        first = self._trials.good is None
        earlier = self._trials.pending
        if first:
            last_resort = Renderer(self.label).render(fallback(desired), ways)
            check_text(self.system, last_resort.text)
            self._trials.save_good(last_resort)
        touched = earlier is not None
        try:
            begun = self._trials.begin(wanted, desired.confirm)
            slot, switch = stage(self.system, wanted.text, None if first else self._slot)
            self._trials.begin_anew(begun, desired.confirm)
            touched = True
            bring_in(self.system, switch)
            self._unswept = True
            self._loaded_text(wanted.structure.fingerprint, wanted.text, slot)
        except (DriverError, ProgramError):
            if touched:  # where even this fails, the guard goes on trying
                if first:
                    delete_table(self.system)
                else:
                    self._keep_good()
            self._trials.drop()
            self._trials.end_guards()
            if first:
                self._trials.forget_good()
            sweep(self.system)
            raise

    def _give_up_unguarded(self) -> list[str]:
        """A trial whose guard is dead, by a reboot or by force, proves nothing: go back."""
        pending = self._trials.pending
        if pending is None or self._trials.guarded:
            return []
        self._loaded = None
        self._keep_good()
        self._trials.drop()
        self._trials.end_guards()
        return ["a trial without its guard was given up"]

    def _keep_good(self) -> None:
        """See to it that the last good ruleset is in force."""
        fingerprint, good = self._trials.good_fingerprint, self._trials.good
        if fingerprint is None or good is None:
            return
        table = self._read_swept()
        if table is None or table.objects != self._memory.recall(fingerprint):
            self._loaded = None
            self._load(good, fingerprint)

    def _load(self, text: str, fingerprint: str) -> None:
        """Replace what is in force by what was good before."""
        self._loaded_text(fingerprint, text, replace(self.system, text))

    def _loaded_text(self, fingerprint: str, text: str, slot: str) -> None:
        """To list thousands of rules takes longer than to load them: it waits for the next look."""
        self._unseen, self._slot = (fingerprint, text), slot

    def _look(self) -> Table | None:
        """What is there. What the kernel made of what was loaded last is remembered."""
        table = read_table(self.system)
        if table and self._unseen:
            fingerprint, text = self._unseen
            pending = self._trials.pending
            current = pending.fingerprint if pending else self._trials.good_fingerprint
            if fingerprint == current and self._memory.learn(fingerprint, text, table):
                self._unseen = None
        if table:
            self._slot = table.slot
        return table

    def _see(self) -> None:
        """Look at what is on trial, if whoever loaded it has not."""
        pending, text = self._trials.pending, self._trials.saved
        if pending and text and self._memory.recall(pending.fingerprint) is None:
            self._unseen = pending.fingerprint, text
            self._look()

    def _save(self, wanted: Ruleset) -> None:
        """What a machine loads when it starts follows the members, too."""
        if self._trials.pending:
            self._trials.save_trial(wanted)
        else:
            self._trials.save_good(wanted)

    def _cut(self, desired: FirewallDesired, ways: Ways) -> None:
        """End flows that are not allowed any more; where members left, theirs only."""
        if desired.cut:
            left = self._cuts.left
            permit = functools.cache(lambda: permission(self.system, desired, ways))
            ended = end_flows(self.system, lambda flow: not concerns(flow, left) or permit()(flow))
            if ended:
                LOG.info("%s: %d flows ended, which are not allowed any more", self.label, ended)
        self._cuts.done()

    def _observe_refused(self, reason: str, wanted: Ruleset) -> Observation:
        table = self._look()
        remembered = self._memory.recall(self._trials.good_fingerprint)
        back = table is not None and table.objects == remembered
        return Observation(
            drift=() if back else ("the last good ruleset is not in force",),
            problems=(reason,),
            detail={**nft_report.detail(table, {}, wanted), "refused": reason},
        )

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """What programs say is this unit's error."""
        try:
            yield
        except ProgramError as exc:
            self._able = False
            raise DriverError(f"firewall: {exc}") from exc
