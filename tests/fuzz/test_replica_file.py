# SPDX-License-Identifier: Apache-2.0
"""Whatever is found where an agent keeps its replica: believed whole, or set aside as it is."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.resource import Row
from cnsmo.state import replica as module
from cnsmo.state.replica import Replica
from tests.fuzz.wild import damaged, fuzzed, json_value, mutations
from tests.unit.state.replicas import row, saved_thrice

RIGHT = {
    "deployment": "shop",
    "host_id": "h-1",
    "revision": 2,
    "rows": [json.loads(row("a", 1).model_dump_json()), json.loads(row("b", 2).model_dump_json())],
}


@dataclasses.dataclass
class Scene:
    """A replica's file, as it was saved, and what it held at each revision."""

    path: Path
    versions: dict[int, list[Row]]
    good: bytes

    def loaded(self, content: bytes) -> Replica:
        """What an agent makes of that content; nothing else is written than that it is aside."""
        aside = self.path.with_suffix(".damaged")
        aside.unlink(missing_ok=True)
        self.path.write_bytes(content)
        replica = Replica(self.path, "shop", "h-1")
        left = self.path if replica.load() else aside
        assert [(it, it.read_bytes()) for it in self.path.parent.iterdir()] == [(left, content)]
        assert left == self.path or (replica.revision, list(replica.view())) == (0, [])
        return replica

    def believes_what_was_saved(self, content: bytes) -> None:
        """That, or nothing; what means the same (white space of a header) may be believed."""
        replica = self.loaded(content)
        assert list(replica.view()) == self.versions.get(replica.revision, [])
        assert replica.revision in (0, *self.versions)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    path = tmp_path / "state" / "replica-all.json"
    versions = saved_thrice(path)
    return Scene(path, versions, path.read_bytes())


def recorded(content: str) -> bytes:
    """A record that has the right checksum."""
    return module._record(content, "")[0].encode("utf-8", "surrogatepass")


@fuzzed
@given(data=st.data())
def test_no_flipped_bit_is_believed(scene: Scene, data: st.DataObject) -> None:
    bad = bytearray(scene.good)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    scene.believes_what_was_saved(bytes(bad))


@fuzzed
@given(cut=st.integers(0, 2000))
def test_of_a_file_that_was_cut_no_half_record_is_believed(scene: Scene, cut: int) -> None:
    ends = [len(b"".join(scene.good.splitlines(True)[:count])) for count in (2, 4, 6)]
    replica = scene.loaded(scene.good[:cut])
    whole = [it for it, end in zip(scene.versions, ends, strict=True) if end - 1 <= cut]
    expected = max(whole, default=0)
    assert replica.revision == expected
    assert list(replica.view()) == scene.versions.get(expected, [])


@fuzzed
@given(data=st.data())
def test_no_damaged_file_is_believed(scene: Scene, data: st.DataObject) -> None:
    scene.believes_what_was_saved(data.draw(damaged(scene.good)))


@fuzzed
@given(content=st.binary(max_size=300) | json_value.map(lambda value: json.dumps(value).encode()))
def test_nothing_that_is_no_replica_is_believed(scene: Scene, content: bytes) -> None:
    for tried in (content, content + b"\n" + content, scene.good + content):
        scene.believes_what_was_saved(tried)


@fuzzed
@given(header=mutations({"format": module.FORMAT, "sha256": "0" * 64}))
def test_no_wrong_header_is_believed(scene: Scene, header: Any) -> None:
    scene.believes_what_was_saved(json.dumps(header).encode() + b"\n{}\n")


@fuzzed
@given(content=mutations(RIGHT) | json_value)
def test_what_has_the_right_checksum_comes_back_as_it_was_read(scene: Scene, content: Any) -> None:
    """As another release might have written it: what it says is not for the replica to judge."""
    replica = scene.loaded(recorded(json.dumps(content)))
    before = replica.revision, list(replica.view())
    replica.save()
    again = Replica(scene.path, "shop", "h-1")
    assert again.load()
    assert (again.revision, list(again.view())) == before
