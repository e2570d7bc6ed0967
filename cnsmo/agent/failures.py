# SPDX-License-Identifier: Apache-2.0
"""What went wrong in one pass over a service's units: each tells its own, none stops another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from oslo_log import log

from cnsmo.model.errors import CnsmoError

LOG = log.getLogger(__name__)


class Failures:
    """Collects failures, one line each; what a plugin did not foresee too."""

    def __init__(self, where: str, lines: Iterable[str] = ()) -> None:
        """where: deployment, host and service, for the log. lines: what is known already."""
        self.where = where
        self.lines = list(lines)

    @contextlib.contextmanager
    def of(
        self, unit: str, what: str = "", through: tuple[type[CnsmoError], ...] = ()
    ) -> Iterator[None]:
        """Work on a unit that may fail. what: said before the reason. through: not the unit's."""
        try:
            yield
        except through:
            raise
        except CnsmoError as exc:
            LOG.warning("%s %s: %s%s", self.where, unit, what, exc)
            self.lines.append(f"{unit}: {what}{exc}")
        except Exception as exc:  # of a plugin
            LOG.exception("%s %s", self.where, unit)
            self.lines.append(f"{unit}: {what}{in_words(exc)}")


def in_words(exc: Exception) -> str:
    """The words for an exception; our own have theirs, of the others we say which they are."""
    return str(exc) if isinstance(exc, CnsmoError) else f"unforeseen {type(exc).__name__}: {exc}"
