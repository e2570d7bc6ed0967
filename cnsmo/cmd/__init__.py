# SPDX-License-Identifier: Apache-2.0
"""Console scripts, one thin main() each.

oslo.service's backend is chosen here, before anything else of oslo is imported: native threads.
eventlet comes with oslo.service; nobody here wants it, and importing it costs half a second and a
warning on the operator's terminal: so it is made unimportable.

While libraries are loaded nothing becomes garbage that would be worth looking for.
"""

import gc
import os
import sys
from typing import Any, cast

os.umask(0o077)  # before anything can make a file
cast("dict[str, Any]", sys.modules).setdefault("eventlet", None)

from cnsmo.cmd import late  # noqa: E402

late.put_off()
gc.disable()

from oslo_service import backend  # noqa: E402

backend.init_backend(backend.BackendType.THREADING)
gc.enable()
