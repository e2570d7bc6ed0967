# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage backup, restore: a whole deployment in a file. These go to the database directly."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnsmo.manage.command import Command
from cnsmo.model.errors import NotFound


class Backup(Command):
    """Write a whole deployment to a file, while cores run: what is declared, hosts, tokens, audit.

    The file (mode 0600) holds no key: back up the key of the database ([secrets] key_file) apart
    from it, without which the hosts' and the tokens' secrets cannot be restored. It does not hold
    the certificate authority, nor anything of the broker.
    """

    writes = True
    examples = """
cnsmo-manage backup shop /mnt/backup/shop-2026-11-23
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("deployment", metavar="DEPLOYMENT", help="its name")
        parser.add_argument("file", metavar="FILE", help="a file that is not there yet")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.model.errors import Conflict
        from cnsmo.state import backup, backup_file, schema, sealing
        from cnsmo.state.store import Store

        self.session.require_database()
        engine, vault = self.session.engine(), self.session.vault()
        schema.check(engine)
        sealing.check(engine, vault)
        name, path = parsed_args.deployment, self.app.cwd / parsed_args.file
        if parsed_args.dry_run:
            found = Store(engine, vault).deployment(name)
            if path.exists():
                raise Conflict(backup_file.taken(path))
            self.dry(f"write {name} at revision {found.revision} to {path}")
            return
        done = backup.save(engine, vault, name, path)
        self.say(f"{name} at revision {done.head.revision} is in {path}: {done.records} records.")
        self.say(f"To restore it, the key in {vault.path} is needed, which is not in it.")


class Restore(Command):
    """Put a deployment back that 'backup' wrote, into this database, of whatever kind it is.

    It refuses what was altered, and a deployment that is there already. Its revision is a billion
    higher than it was, so that every agent fetches everything anew. Where the database has another
    key than the one that it comes from, --key names that one; what was sealed is sealed anew. The
    core that it comes from must not run any more on the same broker.
    """

    writes = True
    examples = """
cnsmo-manage restore /mnt/backup/shop-2026-11-23
cnsmo-manage restore shop-2026-11-23 --key /mnt/keys/secrets.json   # of the other core's database
cnsmo-manage restore shop-2026-11-23 --dry-run
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="that 'backup' wrote")
        parser.add_argument(
            "--key",
            metavar="FILE",
            help="key file of the database that it comes from, where that is not this one's",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.model.audit import Act
        from cnsmo.state import backup, schema, sealing
        from cnsmo.state.backup_file import BackupReader
        from cnsmo.state.vault import Vault

        self.session.require_database()
        engine, vault = self.session.engine(), self.session.vault()
        schema.check(engine)
        sealing.check(engine, vault)
        vaults = [vault]
        if parsed_args.key:
            vaults.append(Vault(self._there(parsed_args.key)))
        with BackupReader(self.app.cwd / parsed_args.file) as file:
            source = file.sealed_by(vaults)
            act = Act.of_operator(_who(), "restore")
            done = backup.restore(engine, vault, file, source, act, parsed_args.dry_run)
        told = (
            f"{done.head.deployment} as of {done.head.made_at:%Y-%m-%d %H:%M:%S} UTC, revision "
            f"{done.head.revision}, with {done.hosts} hosts"
        )
        if parsed_args.dry_run:
            self.dry(f"restore {told}, as revision {done.revision}")
            return
        self.say(f"{told}, is restored as revision {done.revision}.")
        if done.unopened:
            self.say(
                f"{done.unopened} secrets in it are sealed by no key that is known: their hosts "
                "have to join anew, their tokens are worthless."
            )

    def _there(self, name: str) -> Path:
        path = self.app.cwd / name
        if not path.exists():
            raise NotFound(f"there is no file {path}")
        return path


def _who() -> str:
    from cnsmo.bus.clients import author

    return author()
