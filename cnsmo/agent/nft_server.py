# SPDX-License-Identifier: Apache-2.0
"""The process that carries out nft(8)'s commands for an agent, where the agent acts.

``python -I -S nft_server.py``: lines of JSON come in and go out, until the input ends. To start
nft(8) costs several times what most of its commands do; this one has begun already. It does what
that program does, by the same library (libnftables(3)), with a context that is new each time; and
it is a process of its own, so that whatever the library does, it does not do to the agent.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Sequence
from typing import Any

LIBRARY = "libnftables.so.1"
OPTIONS = {"-a": 1 << 3, "-j": 1 << 4, "-t": 1 << 11}
"""What the output has, by the program's option; NFT_CTX_OUTPUT_* of nftables/libnftables.h."""
CHECK, FROM_STDIN = "-c", ("-f", "-")


def understands(args: Sequence[str]) -> bool:
    """Whether arguments of nft(8) can be carried out here."""
    rest = _split(args)[1]
    return rest == FROM_STDIN or (bool(rest) and not any(word.startswith("-") for word in rest))


def main() -> int:
    """Work until the input ends; the first line says that all is there that is needed."""
    try:
        library = _load()
    except OSError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        sys.stdout.write(json.dumps(run(library, asked["args"], asked["stdin"])) + "\n")
        sys.stdout.flush()
    return 0


def run(library: Any, args: Sequence[str], stdin: str) -> tuple[int, str, str]:
    """What ``nft ARGS`` comes to: exit code, output, errors."""
    options, rest = _split(args)
    context = library.nft_ctx_new(0)
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    flags = sum(flag for option, flag in OPTIONS.items() if option in options)
    library.nft_ctx_output_set_flags(context, flags)
    library.nft_ctx_set_dry_run(context, CHECK in options)
    text = stdin if rest == FROM_STDIN else " ".join(rest)
    code = library.nft_run_cmd_from_buffer(context, text.encode())
    said = library.nft_ctx_get_output_buffer(context).decode(errors="replace")
    errors = library.nft_ctx_get_error_buffer(context).decode(errors="replace")
    library.nft_ctx_free(context)
    return (1 if code else 0), said, errors


def _split(args: Sequence[str]) -> tuple[set[str], tuple[str, ...]]:
    """Options, and what follows them."""
    known = {CHECK, *OPTIONS}
    first = next((at for at, word in enumerate(args) if word not in known), len(args))
    return set(args[:first]), tuple(args[first:])


def _load() -> Any:
    """The library.

    :raises OSError: when it is not there.
    """
    library = ctypes.CDLL(LIBRARY)
    context, text, flags = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
    for name, result, *arguments in (
        ("new", context, ctypes.c_uint32),
        ("free", None, context),
        ("buffer_output", ctypes.c_int, context),
        ("buffer_error", ctypes.c_int, context),
        ("get_output_buffer", text, context),
        ("get_error_buffer", text, context),
        ("output_set_flags", None, context, flags),
        ("set_dry_run", None, context, ctypes.c_bool),
    ):
        function = getattr(library, f"nft_ctx_{name}")
        function.restype, function.argtypes = result, arguments
    library.nft_run_cmd_from_buffer.argtypes = [context, text]
    return library


if __name__ == "__main__":
    sys.exit(main())
