# SPDX-License-Identifier: Apache-2.0
import io
from pathlib import Path

import pytest

from cnsmo.manage import document
from cnsmo.model.errors import InvalidDocument, InvalidRequest


def test_a_file_is_read_from_the_callers_directory(tmp_path):
    (tmp_path / "a.yaml").write_text("deployment: é\n", encoding="utf-8")
    assert document.read("a.yaml", tmp_path, io.StringIO()) == "deployment: é\n"


def test_a_byte_order_mark_is_no_part_of_the_document(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfdeployment: a\n")
    assert document.read("a.yaml", tmp_path, io.StringIO()) == "deployment: a\n"


def test_stdin_is_read_as_bytes_where_it_has_them():
    stream = io.TextIOWrapper(io.BytesIO("é".encode()), encoding="ascii")
    assert document.read("-", Path(), stream) == "é"
    assert document.read("-", Path(), io.StringIO("x")) == "x"


def test_what_is_not_utf8_is_told_with_its_place(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"deployment: a\nvpn: \xff\n")
    with pytest.raises(InvalidDocument, match=r"a\.yaml:2:6: not UTF-8 \(byte 0xff\)"):
        document.read("a.yaml", tmp_path, io.StringIO())


@pytest.mark.parametrize("name", ["big.yaml", "-"])
def test_a_huge_document_is_refused_without_being_read_whole(tmp_path, name):
    (tmp_path / "big.yaml").write_bytes(b"#" * 5_000_000)
    stream = io.StringIO("#" * 5_000_000)
    with pytest.raises(InvalidDocument, match="larger than 1 MB"):
        document.read(name, tmp_path, stream)
    assert name != "-" or stream.tell() == document.MAX_BYTES + 1


@pytest.mark.parametrize(("name", "reason"), [("nix.yaml", "No such file"), (".", "directory")])
def test_what_cannot_be_read_says_why(tmp_path, name, reason):
    with pytest.raises(InvalidRequest, match=reason):
        document.read(name, tmp_path, io.StringIO())


def test_problems_get_the_files_name_line_and_column():
    problems = [
        {"path": "vpn.a.cidr", "line": 3, "column": 5, "message": "wrong", "remedy": "right"},
        {"path": "", "line": 4, "column": None, "message": "bad", "remedy": ""},
        {"path": "x", "line": None, "column": None, "message": "odd"},
    ]
    with pytest.raises(InvalidDocument) as caught, document.located("a.yaml"):
        raise InvalidDocument("", problems=problems)
    assert str(caught.value).splitlines() == [
        "a.yaml:3:5: vpn.a.cidr: wrong (right)",
        "a.yaml:4: bad",
        "a.yaml: x: odd",
        "3 mistakes; nothing was changed.",
    ]


def test_a_document_error_without_problems_stays_as_it_is():
    with pytest.raises(InvalidDocument, match=r"^as it is$"), document.located("a.yaml"):
        raise InvalidDocument("as it is")
