# SPDX-License-Identifier: Apache-2.0
"""cnsmo-status upgrade check: can this release take over? Exit codes: oslo.upgradecheck's."""

from __future__ import annotations

import sys

from oslo_upgradecheck import upgradecheck

from cnsmo import conf
from cnsmo.cmd import program
from cnsmo.doctor.upgrade import CHECKS


class Checks(upgradecheck.UpgradeCommands):
    """Run with the new release, before its cores are started."""

    _upgrade_checks = tuple(
        (name, lambda _self, look=look: look(conf.CONF)) for name, look in CHECKS
    )


def main() -> int:
    """Entry point."""
    return program.run("cnsmo-status", _work)


def _work() -> int:
    conf.register()
    argv = sys.argv[1:]
    return int(upgradecheck.main(conf.CONF, "cnsmo", Checks(), argv=argv))


if __name__ == "__main__":
    sys.exit(main())
