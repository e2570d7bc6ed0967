# SPDX-License-Identifier: Apache-2.0
"""The sample configuration is made from the options themselves."""

import subprocess
import sys
from pathlib import Path

from oslo_config import cfg

from cnsmo.conf.opts import list_opts

TREE = Path(__file__).parents[3]


def test_the_sample_has_every_option_with_its_help(tmp_path: Path) -> None:
    sample = tmp_path / "cnsmo.conf.sample"
    generator = TREE / "etc" / "oslo-config-generator" / "cnsmo.conf"
    program = "from oslo_config.generator import main; main()"
    subprocess.run(
        [sys.executable, "-c", program, f"--config-file={generator}", f"--output-file={sample}"],
        check=True,
        capture_output=True,
    )
    text = sample.read_text()
    for group, options in list_opts():
        assert f"\n[{group}]\n" in text
        for option in options:
            assert f"#{option.dest} =" in text
    assert "sqlite:////var/lib/cnsmo/core/state.sqlite" in text


def test_every_option_has_help_and_every_number_its_bounds() -> None:
    for group, options in list_opts():
        for option in options:
            assert option.help, f"[{group}] {option.dest}"
            if isinstance(option.type, cfg.types.Number):
                assert option.type.min is not None, f"[{group}] {option.dest}"
