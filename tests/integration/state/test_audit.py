# SPDX-License-Identifier: Apache-2.0
"""The audit's promises on each database: a line for each change, and no change to a line."""

import datetime
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from cnsmo.model.audit import GENESIS, Act, AuditLine, AuditQuery, Change, Role
from cnsmo.model.errors import NotFound
from cnsmo.model.resource import AGENT, OPERATOR
from cnsmo.state import audit
from cnsmo.state.audit_trail import AuditTrail
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.store import Store
from cnsmo.state.tables import AUDIT, AUDIT_CHAINS, DEPLOYMENTS
from cnsmo.state.writer import Writer

ANNA = Act.of_operator("anna@desk", "apply")
DAY = datetime.timedelta(days=1)


@pytest.fixture
def trail(store: Store) -> AuditTrail:
    return AuditTrail(store.engine, store.vault)


def put(store: Store, name: str, value: Any, kind: str = "vpn", act: Act = ANNA) -> int:
    def work(writer: Writer) -> None:
        writer.put(kind, name, {"value": value}, OPERATOR)

    return store.write("shop", act.author, work, act).revision


def lines(trail: AuditTrail, **query: Any) -> list[AuditLine]:
    """The oldest first."""
    return trail.page("shop", AuditQuery(**{"limit": 1000, **query})).lines[::-1]


def told(line: AuditLine) -> tuple[str, str, str, Any, Any]:
    before, after = (json.loads(text) if text else None for text in (line.before, line.after))
    return line.action, line.kind, line.name, before, after


def problems(trail: AuditTrail, head: str = "") -> str:
    return "; ".join(problem for it in trail.verify("shop", head) for problem in it.problems)


def tamper(store: Store, *statements: sa.Executable) -> None:
    with transaction(store.engine) as connection:
        for statement in statements:
            connection.execute(statement)


def test_the_first_line_says_what_the_deployment_starts_from(trail: AuditTrail) -> None:
    begin, create = lines(trail)
    nothing = hashlib.sha256(b"[]").hexdigest()
    start = {"revision": 0, "rows": 0, "state": nothing}
    assert told(begin) == ("begin", "audit", "begin", None, start)
    assert told(create) == ("write", "deployment", "shop", None, {"name": "shop"})


def test_each_change_is_a_line_with_what_was_before_and_is_after(
    store: Store, trail: AuditTrail
) -> None:
    put(store, "backbone", 1)
    put(store, "backbone", 2)
    store.write("shop", "anna", lambda writer: writer.delete("vpn", "backbone"), ANNA)
    made, changed, deleted = lines(trail, kind="vpn")
    assert told(made) == ("apply", "vpn", "backbone", None, {"value": 1})
    assert told(changed) == ("apply", "vpn", "backbone", {"value": 1}, {"value": 2})
    assert told(deleted) == ("apply", "vpn", "backbone", {"value": 2}, None)
    assert [it.revision for it in (made, changed, deleted)] == [1, 2, 3]
    assert {(it.role, it.who, it.source) for it in (made, changed, deleted)} == {
        ("operator", "anna", "desk")
    }


def test_a_write_that_changes_nothing_adds_no_line(store: Store, trail: AuditTrail) -> None:
    put(store, "backbone", 1)
    before = lines(trail)
    put(store, "backbone", 1)
    assert lines(trail) == before


def test_how_agents_stand_is_no_line(store: Store, trail: AuditTrail) -> None:
    before = lines(trail)
    put(store, "web1/vpn", "ready", kind=AGENT)
    assert lines(trail) == before


def test_what_a_write_raises_leaves_no_line(store: Store, trail: AuditTrail) -> None:
    before = lines(trail)

    def work(writer: Writer) -> None:
        writer.put("vpn", "backbone", {}, OPERATOR)
        writer.note(Change("token", "t-1", None, {}))
        writer.flush()
        raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        store.write("shop", "anna", work, ANNA)
    assert lines(trail) == before
    assert problems(trail) == ""


def test_what_is_no_row_is_told_without_a_revision_of_its_own(
    store: Store, trail: AuditTrail
) -> None:
    put(store, "backbone", 1)
    note = Change("token", "t-1", None, {"uses_left": 3}, "web1")
    store.write("shop", "anna", lambda writer: writer.note(note), ANNA)
    (line,) = lines(trail, kind="token")
    assert (told(line), line.host, line.revision) == (
        ("apply", "token", "t-1", None, {"uses_left": 3}),
        "web1",
        1,
    )


def test_a_chain_is_followed_from_its_first_line_by_hand(store: Store, trail: AuditTrail) -> None:
    put(store, "grüße ☃ 😀"[:5], {"deep": [1, 2.5, None, "😀"], "big": 2**60})
    head = GENESIS
    for line in lines(trail):
        said = line.model_dump(exclude={"hash"})
        said["at"] = line.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        head = hashlib.sha256(f"{head}\n{text}".encode()).hexdigest()
        assert line.hash == head
    (found,) = trail.verify("shop")
    assert (found.head, found.lines, found.problems) == (head, 3, ())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"host": "web1"}, [3]),
        ({"who": "web2"}, [4]),
        ({"kind": "vpn"}, [5]),
        ({"action": "apply"}, [5]),
        ({"revision": 3}, [5]),
        ({"since": datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)}, []),
        ({"since": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)}, [1, 2, 3, 4, 5]),
        ({"limit": 2}, [4, 5]),
        ({"limit": 2, "below": 4}, [2, 3]),
    ],
    ids=str,
)
def test_lines_are_found_by(
    store: Store, trail: AuditTrail, query: dict[str, Any], found: list[int]
) -> None:
    put(store, "web1", 1, kind="host", act=Act(Role.HOST, "web1", "h-1", "facts"))
    put(store, "web2", 1, kind="host", act=Act(Role.HOST, "web2", "h-2", "facts"))
    put(store, "backbone", 1)
    assert [line.number for line in lines(trail, **query)] == found


def test_a_page_is_no_longer_than_an_answer_may_be(store: Store, trail: AuditTrail) -> None:
    for number in range(3):
        put(store, "backbone", "x" * 400_000 + str(number))
    pages = [trail.page("shop", AuditQuery())]
    while pages[-1].more:
        pages.append(trail.page("shop", AuditQuery(below=pages[-1].lines[-1].number)))
    assert [[line.number for line in page.lines] for page in pages] == [[5], [4], [3, 2, 1]]


def test_a_deleted_deployment_leaves_its_audit(store: Store, trail: AuditTrail) -> None:
    put(store, "backbone", 1)
    store.delete("shop", ANNA.by("deployment delete"))
    *_rest, last = lines(trail)
    assert told(last) == (
        "deployment delete",
        "deployment",
        "shop",
        {"name": "shop", "revision": 1},
        None,
    )
    store.create("shop")
    assert [line.number for line in lines(trail)] == [1, 2], "of the one that is there"
    assert [(it.ended, it.problems) for it in trail.verify("shop")].count((True, ())) == 1


def test_nobody_was_never_there(trail: AuditTrail) -> None:
    for ask in (lambda: trail.page("shoe", AuditQuery()), lambda: trail.verify("shoe")):
        with pytest.raises(NotFound, match="no audit of a deployment 'shoe'"):
            ask()


# what somebody with the database's password may do


def alter(line: int, **values: object) -> sa.Executable:
    return sa.update(AUDIT).where(AUDIT.c.number == line).values(**values)


def remove(*numbers: int) -> sa.Executable:
    return sa.delete(AUDIT).where(AUDIT.c.number.in_(numbers))


ALTERED = "line 4 was altered, or follows one that was"
TAMPERED: dict[str, tuple[Callable[[Store], object], str]] = {
    **{
        f"altered {column}": (
            lambda store, column=column, value=value: tamper(store, alter(4, **{column: value})),
            ALTERED,
        )
        for column, value in {
            "at": datetime.datetime(2020, 1, 1),  # noqa: DTZ001  as the database keeps it
            "role": "core",
            "who": "carl",
            "source": "elsewhere",
            "action": "renew",
            "kind": "firewall",
            "name": "other",
            "host": "web9",
            "revision": 7,
            "before": "{}",
            "after": '{"value":3}',
        }.items()
    },
    "removed": (lambda store: tamper(store, remove(4)), "line 4 is missing"),
    "several removed": (lambda store: tamper(store, remove(3, 4)), "lines 3 to 4 are missing"),
    "first removed": (
        lambda store: tamper(store, remove(1, 2)),
        "lines 1 to 2 are missing, of which no checkpoint tells",
    ),
    "end cut off": (
        lambda store: tamper(store, remove(5, 6)),
        "lines 5 to 6 are missing at its end",
    ),
    "all removed": (lambda store: tamper(store, sa.delete(AUDIT)), "lines 1 to 6 are missing"),
    "inserted": (lambda store: forge(store, 7), "line 7 is behind its end"),
    "replaced from there on": (
        lambda store: rewrite(store, 4),
        "that it ends with line 6 is not what a core sealed",
    ),
    "end cut off and moved": (
        lambda store: cut(store, 4),
        "that it ends with line 4 is not what a core sealed",
    ),
    "the chain taken away": (
        lambda store: tamper(store, sa.delete(AUDIT), sa.delete(AUDIT_CHAINS)),
        "it has no audit any more",
    ),
    "another chain's": (
        lambda store: tamper(store, sa.update(DEPLOYMENTS).values(chain="a-other")),
        "it has no audit any more",
    ),
    "another deployment's": (
        lambda store: point_elsewhere(store),
        "it has no audit any more",
    ),
    "another deployment's, renamed": (
        lambda store: point_elsewhere(store, deployment="shop", ended_at=None),
        "that it ends with line 3 is not what a core sealed",
    ),
    "emptied": (
        lambda store: tamper(
            store, sa.delete(AUDIT), sa.update(AUDIT_CHAINS).values(lines=0, head=GENESIS, seal="")
        ),
        "that it ends with line 0 is not what a core sealed",
    ),
}


def all_lines(store: Store) -> list[AuditLine]:
    return lines(AuditTrail(store.engine, store.vault))


def point_elsewhere(store: Store, **values: object) -> None:
    """The chain of a deployment that was deleted, in the place of its own."""
    store.create("lab")
    store.delete("lab")
    (chain,) = AuditTrail(store.engine, store.vault).verify("lab")
    of_lab = sa.update(AUDIT_CHAINS).where(AUDIT_CHAINS.c.id == chain.chain)
    tamper(store, sa.update(DEPLOYMENTS).values(chain=chain.chain))
    if values:
        tamper(store, of_lab.values(**values))


def forge(store: Store, number: int) -> None:
    """A line that follows the others as it should."""
    last = all_lines(store)[-1]
    line = last.model_copy(update={"number": number, "who": "carl"}).chained(last.hash)
    tamper(
        store, sa.insert(AUDIT).values(**{**line.model_dump(), "at": last.at.replace(tzinfo=None)})
    )


def rewrite(store: Store, number: int) -> None:
    """A line, and all digests behind it, and the chain's end: whole, but for the seal."""
    head = ""
    for line in all_lines(store):
        changed = line.model_copy(update={"who": "carl"}) if line.number == number else line
        made = changed.chained(head or GENESIS)
        head = made.hash
        tamper(store, alter(line.number, who=made.who, hash=made.hash))
    tamper(store, sa.update(AUDIT_CHAINS).values(head=head))


def cut(store: Store, last: int) -> None:
    """Nothing behind that line, and the chain's end says so: whole, but for the seal."""
    head = all_lines(store)[last - 1].hash
    beyond = sa.delete(AUDIT).where(AUDIT.c.number > last)
    tamper(store, beyond, sa.update(AUDIT_CHAINS).values(lines=last, head=head))


@pytest.mark.parametrize("how", TAMPERED)
def test_verify_finds_a_line_that_was(store: Store, trail: AuditTrail, how: str) -> None:
    for number in range(4):
        put(store, "backbone", number)
    assert problems(trail) == ""
    change, problem = TAMPERED[how]
    change(store)
    assert problem in problems(trail)


@pytest.mark.parametrize("how", TAMPERED)
def test_no_core_heals_it_by_going_on(store: Store, trail: AuditTrail, how: str) -> None:
    for number in range(4):
        put(store, "backbone", number)
    TAMPERED[how][0](store)
    for number in range(2):
        put(store, "backbone", f"on {number}")
        assert problems(trail)
    assert store.purge_audit("shop", -DAY).value == 0
    assert problems(trail)
    assert [json.loads(line.after) for line in lines(trail, kind="vpn")[-2:]] == [
        {"value": "on 0"},
        {"value": "on 1"},
    ]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("replaced from there on", "that it ends with line 6 is not what a core sealed"),
        ("end cut off", "line 6 is not the last one, which a core had sealed"),
        ("inserted", "line 6 is not the last one, which a core had sealed"),
        ("emptied", "that it ends with line 0 is not what a core sealed"),
        ("the chain taken away", "it had no audit any more"),
        ("another deployment's", "it had no audit any more"),
    ],
)
def test_a_core_that_finds_it_says_so_once_and_follows_nothing_of_it(
    store: Store, trail: AuditTrail, how: str, why: str
) -> None:
    for number in range(4):
        put(store, "backbone", number)
    TAMPERED[how][0](store)
    store.write("shop", "anna", lambda _writer: None, ANNA)
    put(store, "backbone", 5)
    (broken,) = lines(trail, action="broken")
    said = json.loads(broken.after)
    assert (said["why"], said["revision"], said["rows"]) == (why, 4, 1)
    assert broken.hash == broken.digest(GENESIS)
    assert f"before line {broken.number} a core found that {why}" in problems(trail)


def test_whatever_a_line_says_verify_tells_what_is_wrong(store: Store, trail: AuditTrail) -> None:
    for number, after in enumerate(("", "[", "[]", '{"through":"x"}', '{"why":"\\u001b[2J"}')):
        last = all_lines(store)[-1]
        action = "broken" if number % 2 else "checkpoint"
        said = {"number": last.number + 1, "action": action, "after": after}
        line = last.model_copy(update=said).chained(last.hash)
        values = {**line.model_dump(), "at": last.at.replace(tzinfo=None)}
        tamper(store, sa.insert(AUDIT).values(**values))
    assert "behind its end" in problems(trail)
    assert problems(trail).isprintable()


def test_an_older_state_with_its_seal_is_found_by_a_digest_that_was_kept(
    store: Store, trail: AuditTrail
) -> None:
    put(store, "backbone", 1)
    with transaction(store.engine) as connection:
        (old,) = connection.execute(sa.select(AUDIT_CHAINS)).mappings().all()
    put(store, "backbone", 2)
    (found,) = trail.verify("shop")
    assert problems(trail, found.head) == ""
    tamper(store, remove(4), sa.update(AUDIT_CHAINS).values(**old))
    assert problems(trail) == "", "what nobody can see in the database alone"
    assert problems(trail, found.head) == f"no line has the digest {found.head}"


# how long it is kept


def age(store: Store, days: int, *numbers: int) -> None:
    """Make lines old, as cores would have written them."""
    head = GENESIS
    for line in all_lines(store):
        at = line.at - days * DAY if line.number in numbers else line.at
        made = line.model_copy(update={"at": at}).chained(head)
        head = made.hash
        tamper(store, alter(line.number, at=at.replace(tzinfo=None), hash=head))
    with transaction(store.engine) as connection:
        record = connection.execute(sa.select(AUDIT_CHAINS)).one()
        end = audit.Chain(record.id, record.lines, head, record.deployment)
        seal = audit.seal_of(store.vault, end)
        connection.execute(sa.update(AUDIT_CHAINS).values(head=head, seal=seal))
    put(store, "aged", days)


def test_old_lines_are_forgotten_and_what_is_left_can_be_verified(
    store: Store, trail: AuditTrail
) -> None:
    for number in range(4):
        put(store, "backbone", number)
    age(store, 40, 1, 2, 3)
    (before,) = trail.verify("shop")
    assert store.purge_audit("shop", 30 * DAY).value == 3
    left = lines(trail)
    assert [line.number for line in left] == [4, 5, 6, 7, 8]
    assert (left[-1].action, json.loads(left[-1].after)["through"]) == ("checkpoint", 3)
    assert problems(trail, before.head) == ""
    assert store.purge_audit("shop", 30 * DAY).value == 0, "nothing is left that is old enough"
    tamper(store, remove(4))
    assert problems(trail) == "line 4 is missing, of which no checkpoint tells"


def test_a_forged_checkpoint_is_found(store: Store, trail: AuditTrail) -> None:
    for number in range(4):
        put(store, "backbone", number)
    age(store, 40, 1, 2, 3)
    store.purge_audit("shop", 30 * DAY)
    tamper(store, alter(8, after='{"hash":"0","lines":3,"through":4}'), remove(4))
    assert "line 8 was altered" in problems(trail)


def test_all_may_be_old(store: Store, trail: AuditTrail) -> None:
    put(store, "backbone", 1)
    age(store, 40, 1, 2, 3)
    assert store.purge_audit("shop", -DAY).value == 4
    (line,) = lines(trail)
    assert (line.number, line.action) == (5, "checkpoint")
    assert problems(trail) == ""
    put(store, "backbone", 2)
    assert problems(trail) == ""


def test_the_audit_of_a_deleted_deployment_is_forgotten_with_its_time(
    store: Store, trail: AuditTrail
) -> None:
    store.create("lab")
    store.delete("shop")
    assert store.purge_ended(DAY) == ([], [])
    (told_of_it,), problems_found = store.purge_ended(-DAY)
    assert (told_of_it[:24], problems_found) == ("deployment=shop chain=a-", [])
    assert [it.deployment for it in trail.verify()] == ["lab"]


LONG_AGO = datetime.datetime(2020, 1, 1)  # noqa: DTZ001  as the database keeps it


@pytest.mark.parametrize("numbers", [(1, 2, 3), (1,)], ids=str)
def test_lines_that_somebody_made_old_stay_and_it_is_said_once(
    store: Store, trail: AuditTrail, numbers: tuple[int, ...]
) -> None:
    for number in range(4):
        put(store, "backbone", number)
    for number in numbers:
        tamper(store, alter(number, at=LONG_AGO))
    for _again in range(2):
        assert store.purge_audit("shop", 30 * DAY).value == 0
    assert [line.number for line in lines(trail)] == [1, 2, 3, 4, 5, 6, 7]
    (broken,) = lines(trail, action="broken")
    assert "was altered" in json.loads(broken.after)["why"]
    assert f"line {numbers[0]} was altered" in problems(trail)


def test_a_chain_whose_every_line_was_made_old_stays(store: Store, trail: AuditTrail) -> None:
    put(store, "backbone", 1)
    tamper(store, sa.update(AUDIT).values(at=LONG_AGO))
    assert store.purge_audit("shop", 30 * DAY).value == 0
    assert len(lines(trail)) == 3
    assert "line 1 was altered" in problems(trail)


def test_lines_that_somebody_wrote_anew_as_old_ones_stay(store: Store, trail: AuditTrail) -> None:
    for number in range(4):
        put(store, "backbone", number)
    head = GENESIS
    for line in all_lines(store)[:4]:
        made = line.model_copy(update={"at": LONG_AGO.replace(tzinfo=datetime.UTC)}).chained(head)
        head = made.hash
        tamper(store, alter(line.number, at=LONG_AGO, hash=head))
    assert store.purge_audit("shop", 30 * DAY).value == 0
    assert "line 5 was altered, or follows one that was" in problems(trail)


def test_a_clock_that_is_ahead_forgets_nothing(
    store: Store, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "backbone", 1)
    monkeypatch.setattr("cnsmo.state.store.utc_now", lambda: utc_now() + 1000 * DAY)
    assert store.purge_audit("shop", 30 * DAY).value == 0
    assert len(lines(trail)) == 3


@pytest.mark.parametrize("how", ["made old", "shortened", "not ended"])
def test_the_audit_of_a_deployment_whose_end_was_changed_stays(
    store: Store, trail: AuditTrail, how: str
) -> None:
    put(store, "backbone", 1)
    if how != "not ended":
        store.delete("shop")
    tamper(store, sa.update(AUDIT_CHAINS).values(ended_at=LONG_AGO))
    if how == "shortened":
        tamper(store, remove(4))
    forgotten, (problem,) = store.purge_ended(30 * DAY)
    assert (forgotten, problem[:24]) == ([], "deployment=shop chain=a-")
    assert lines(trail)
