# SPDX-License-Identifier: Apache-2.0
"""What nft(8) lists, brought to a form to compare."""

import re


def split(ruleset: str) -> tuple[str, str]:
    """Our table, and the others."""
    found = re.search(r"^table inet cnsmo \{\n.*?^\}\n", ruleset, re.MULTILINE | re.DOTALL)
    ours = found[0] if found else ""
    return ours, ruleset.replace(ours, "")


def slot(table: str) -> str:
    """How names end that are in force."""
    (found,) = set(re.findall(r"^\t\tjump \S+(\.[ab])\n", table, re.MULTILINE))
    return str(found)


def plain(table: str, ending: str = "") -> str:
    """Our table whichever slot it is in, chains and sets by name: those names never matter.

    ending: only what is in that slot, and what hooks in.
    """
    blocks = re.findall(r"^\t\w+ \S+ \{\n.*?^\t\}\n", table, re.MULTILINE | re.DOTALL)
    for block in blocks:
        table = table.replace(block, "")
    names = rf"\S+\{ending}|input|output" if ending else r"\S+"
    kept = [it for it in blocks if re.match(rf"\t\w+ (?:{names}) ", it)]
    anywhere = sorted(re.sub(r"\.[ab](?![\w.-])", "", it) for it in kept)
    return re.sub(r"\n(?=\n)", "", table + "".join(anywhere))


def uncounted(listed: str) -> str:
    """The same without what counters say."""
    return re.sub(r"packets \d+ bytes \d+", "", listed)
