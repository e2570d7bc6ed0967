# SPDX-License-Identifier: Apache-2.0
"""Where a core tells its figures and how it is, if ``[core_metrics]`` asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from oslo_config import cfg

from cnsmo.conf import core_metrics
from cnsmo.core.counting import UNCOUNTED, Counting
from cnsmo.core.wellness import Wellness
from cnsmo.telemetry.post import Post

PAUSE = 5.0
"""Seconds until a port that is taken is tried again."""


class CorePost:
    """Works from start() to stop(); does nothing where nobody asks."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        engine: sa.Engine,
        agents_url: str,
        running: Mapping[str, Callable[[], str]],
    ) -> None:
        """agents_url: where agents' calls wait; running: see Wellness."""
        self.counting: Counting = UNCOUNTED
        self._post: Post | None = None
        group = conf.core_metrics
        if not group.listen_port:
            return
        from cnsmo.core.figures import Figures

        health = Wellness(conf, engine, running).health
        self.counting = self._figures = figures = Figures(conf, engine, agents_url, health)
        place = group.listen_address, group.listen_port
        self._post = Post(
            place, core_metrics.GROUP, lambda: PAUSE, lambda: figures.registry, health
        )

    def start(self) -> None:
        """Begin to count, and to tell."""
        if self._post is not None:
            self._figures.start()
            self._post.start()

    def stop(self) -> None:
        """End."""
        if self._post is not None:
            self._post.stop()
            self._figures.stop()
