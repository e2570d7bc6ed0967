# SPDX-License-Identifier: Apache-2.0
"""A VM whose clock is an hour off."""

import datetime
import re
from pathlib import Path

import pytest

from tests.integration.fleet import SHOP, Fleet


def test_a_clock_an_hour_off_changes_nothing(fleet: Fleet) -> None:
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        pytest.skip("package faketime is not installed")
    fleet.apply()
    agents = {}
    for host, hours in (("early", -1), ("late", 1)):
        env = {
            "LD_PRELOAD": str(library),
            "FAKETIME": f"{hours:+d}h",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        token = fleet.token(lifetime=60)
        agents[hours] = fleet.agent(host, token=token, env=env, heartbeat=0.5)
    fleet.until_ready("early", "late")
    now = datetime.datetime.now().astimezone()
    for hours, agent in agents.items():
        joined = re.search(r"^([\d-]{10} [\d:]{8}).* joined shop", agent.said, re.MULTILINE)
        assert joined
        off = datetime.datetime.fromisoformat(joined[1]).astimezone() - now
        assert abs(off - datetime.timedelta(hours=hours)) < datetime.timedelta(minutes=5)
        found = fleet.agents()[agent.host]
        assert found.heartbeat_age is not None
        assert 0 <= found.heartbeat_age < 20
        assert found.since is not None
        assert abs(found.since - now) < datetime.timedelta(minutes=5)
    plan = fleet.apply(SHOP.replace("driver:", "listen_port: 9, driver:"))
    fleet.until_ready("early", "late", revision=plan.revision or 0)
    fleet.until(lambda: agents[1].peers == {"early"}, "they are peers")
