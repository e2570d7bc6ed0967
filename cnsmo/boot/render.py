# SPDX-License-Identifier: Apache-2.0
"""User-data from the files of cloudinit/: what Heat hands out, with the values in place."""

from __future__ import annotations

import base64
import email.message
import gzip
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

import cnsmo
from cnsmo.boot.parameters import ROLES, AgentParameters, CoreParameters
from cnsmo.model.errors import InvalidRequest, NotFound

HEADER = "## template: jinja\n"
"""By which cloud-init knows that a file wants the values of the VM."""
MAX_BYTES = 65535
"""Of Nova's user_data, in base64."""
TYPES = {
    "## template: jinja": "text/jinja2",
    "#cloud-config": "text/cloud-config",
    "#!": "text/x-shellscript",
}
"""What cloud-init takes a part for, by its beginning."""


def template(role: str) -> str:
    """The text of cloudinit/ROLE.yaml: of the source tree, or where the package was installed.

    :raises NotFound: when it is in neither.
    """
    places = [
        Path(cnsmo.__file__).parents[1] / "cloudinit",
        Path(sysconfig.get_path("data")) / "share" / "cnsmo" / "cloudinit",
    ]
    for place in places:
        path = place / f"{role}.yaml"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise NotFound(f"{role}.yaml is not in {' nor in '.join(map(str, places))}: install CNSMO anew")


def render(parameters: AgentParameters | CoreParameters) -> str:
    """User-data that needs nothing from the cloud.

    The parameters are checked anew: whatever made them, no value ends the text that it stands in.
    """
    checked = ROLES[parameters.role].model_validate(parameters.model_dump())
    return fill(template(checked.role), checked.model_dump())


def fill(text: str, values: Mapping[str, str]) -> str:
    """What cloud-init makes of such a file on a VM with these metadata."""
    meta = {f"cnsmo_{name}": value for name, value in values.items() if value}
    # Autoescape would corrupt what is no HTML; JSON strings are made by the file itself.
    environment = jinja2.Environment(  # nosec B701
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    made = environment.from_string(text.removeprefix(HEADER))
    return made.render(ds={"meta_data": {"meta": meta}}) + "\n"


def multipart(text: str, others: Sequence[str]) -> str:
    """One user-data of several (MIME), as cloud-init takes it apart again.

    :raises InvalidRequest: when one begins like nothing that cloud-init knows.
    """
    whole = email.message.EmailMessage()
    whole.make_mixed()
    for number, part in enumerate([text, *others]):
        kind = next((kind for begin, kind in TYPES.items() if part.startswith(begin)), None)
        if kind is None:
            known = ", ".join(TYPES)
            raise InvalidRequest(f"part {number}: its first line is none of {known}")
        piece = email.message.EmailMessage()
        piece.set_content(part, subtype=kind.partition("/")[2], cte="base64")
        piece.add_header("Content-Disposition", "attachment", filename=f"part-{number:03}")
        whole.attach(piece)
    return whole.as_string()


def packed(text: str, compress: bool) -> bytes:
    """The bytes to hand to the cloud.

    :raises InvalidRequest: when Nova would refuse them.
    """
    made = gzip.compress(text.encode(), mtime=0) if compress else text.encode()
    size = len(base64.b64encode(made))
    if size > MAX_BYTES:
        remedy = "leave parts out" if compress else "try --gzip, or leave parts out"
        raise InvalidRequest(
            f"the user-data has {size:,} bytes in base64, and clouds take {MAX_BYTES:,}: {remedy}"
        )
    return made
