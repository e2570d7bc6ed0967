# SPDX-License-Identifier: Apache-2.0
"""Serves one WSGI application: python -m openstacklab.wsgi MODULE PORT [ARGUMENT...]."""

import importlib
import sys

import waitress

THREADS = 8
LARGEST = 16 * 2**30
"""Bytes of a request: of an image."""
CONNECTIONS = 2000
"""Heat holds many; at waitress's own limit, 100, stacks stall in steps of half a minute."""


def main() -> None:
    """Until it is killed."""
    module, port, *arguments = sys.argv[1:]
    sys.argv = [f"{module.partition('.')[0]}-api", *arguments]
    application = importlib.import_module(module).application
    waitress.serve(
        application,
        host="0.0.0.0",
        port=int(port),
        threads=THREADS,
        ident=None,
        connection_limit=CONNECTIONS,
        max_request_body_size=LARGEST,
        channel_timeout=20,
        cleanup_interval=5,
    )


if __name__ == "__main__":
    main()
