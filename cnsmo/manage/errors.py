# SPDX-License-Identifier: Apache-2.0
"""How a command ends: every exit code and what it means to a script."""

from __future__ import annotations

from cnsmo.model.errors import CnsmoError

EXIT_CODES = {
    0: "done",
    1: "something failed that has no number of its own",
    2: "wrong usage: an option, an argument or the configuration",
    3: "the document is wrong: one line for each mistake, nothing was changed",
    4: "what was named does not exist",
    5: "conflict: the name is taken, or somebody else changed it meanwhile",
    6: "not allowed",
    7: "the core, the broker or the database does not answer; trying again may help",
    8: "the database needs 'cnsmo-manage db upgrade'",
    9: "what was waited for did not happen: some host is in error, or time ran out",
    10: "this host was removed from its deployment (cnsmo-agent)",
    11: "the audit was changed by others than cores",
    130: "interrupted (Ctrl-C)",
    141: "the reader of the output went away",
}
INTERRUPTED = 130
BROKEN_PIPE = 141


class NotInForce(CnsmoError):
    """It was written, but what the operator waited for did not happen."""

    code = "not-in-force"
    exit_code = 9


class Tampered(CnsmoError):
    """The audit is not as cores wrote it."""

    code = "tampered"
    exit_code = 11
