# SPDX-License-Identifier: Apache-2.0
"""The way to an OpenStack: clouds.yaml and the variables OS_*, and errors in words.

openstacksdk is imported when it is needed: neither agents nor a core without a cloud have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnsmo import __version__
from cnsmo.model.errors import Conflict, Denied, DriverError, DriverUnavailable, Unavailable

if TYPE_CHECKING:
    from openstack.connection import Connection

MISSING = "openstacksdk is not installed here: install cnsmo with its extra 'cloud'"
MAX_TOLD = 300
"""Characters of what a cloud says."""


def connect(cloud: str = "", timeout: float = 30.0) -> Connection:
    """A way to a cloud; nothing is asked yet. timeout: seconds for each answer.

    :raises DriverUnavailable: when openstacksdk is missing, or no cloud is configured.
    """
    try:
        import openstack
        from openstack.exceptions import ConfigException
    except ImportError as exc:
        raise DriverUnavailable(MISSING) from exc
    try:
        return openstack.connect(
            cloud=cloud or None,
            app_name="cnsmo",
            app_version=__version__,
            api_timeout=timeout,
        )
    except ConfigException as exc:
        raise DriverUnavailable(
            f"no cloud is configured: {exc} ([cloud] name, clouds.yaml, OS_CLOUD)"
        ) from exc


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Whatever goes wrong in the block is an error of ours that names what was done.

    :raises Denied: when the cloud does not know who asks, or does not allow it.
    :raises Conflict: when a quota is used up, or something is in use.
    :raises Unavailable: when the cloud does not answer, or says that it cannot now.
    :raises DriverError: when it refuses for another reason.
    """
    from keystoneauth1 import exceptions as auth
    from openstack import exceptions as sdk

    try:
        yield
    except (sdk.ForbiddenException, auth.Unauthorized, auth.Forbidden) as exc:
        quota = "quota" in str(exc).lower()
        raise (Conflict if quota else Denied)(f"{what}: the cloud refuses: {said(exc)}") from exc
    except sdk.ConflictException as exc:
        raise Conflict(f"{what}: the cloud refuses: {said(exc)}") from exc
    except (auth.ConnectionError, auth.CatalogException, auth.DiscoveryFailure) as exc:
        raise Unavailable(f"{what}: the cloud does not answer: {said(exc)}") from exc
    except sdk.HttpException as exc:
        if exc.status_code in (401, 413, 429) or (exc.status_code or 0) >= 500:
            raise Unavailable(f"{what}: the cloud cannot now: {said(exc)}") from exc
        raise DriverError(f"{what}: the cloud refuses: {said(exc)}") from exc
    except (sdk.SDKException, auth.ClientException) as exc:
        raise DriverError(f"{what}: {said(exc)}") from exc


def said(exc: Exception) -> str:
    """What an error of openstacksdk comes to: the server's words, where it has some."""
    details = getattr(exc, "details", None)
    text = str(details or getattr(exc, "message", None) or exc) or type(exc).__name__
    return " ".join(text.split())[:MAX_TOLD]
