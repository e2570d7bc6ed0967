# SPDX-License-Identifier: Apache-2.0
"""Console scripts, one thin main() each.

oslo.service's backend is chosen here, before anything else of oslo is imported: native threads.
"""

import os

from oslo_service import backend

os.umask(0o077)
backend.init_backend(backend.BackendType.THREADING)
