# SPDX-License-Identifier: Apache-2.0
"""A view over rows."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model import errors
from cnsmo.model.resource import AGENT, CORE, HOST, Row, View, joined, member_kind

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


def row(kind: str, name: str, deleted: bool = False, **body: object) -> Row:
    return Row(
        kind=kind, name=name, owner=CORE, revision=1, deleted=deleted, body=body, updated_at=NOW
    )


def host(name: str, *groups: str) -> Row:
    return row(HOST, name, id=f"h-{name}", groups=list(groups))


ROWS = [
    host("web2", "web"),
    host("web1", "web", "edge"),
    host("db1"),
    row(HOST, "old", deleted=True, id="h-old", groups=["gone"]),
    row(member_kind("vpn"), "backbone/web1", a=1),
    row(member_kind("vpn"), "backbone2/web1", a=2),
    row(member_kind("vpn"), "backbone/db1", deleted=True),
]


@given(rows=st.permutations(ROWS))
def test_the_order_of_rows_does_not_matter(rows: list[Row]) -> None:
    view = View("shop", 7, rows, granted=["later"])
    assert list(view.hosts) == ["db1", "web1", "web2"]
    assert view.groups == {"all", "web", "edge", "later"}
    assert list(view.in_groups(["web"])) == ["web1", "web2"]
    assert list(view.in_groups(["all"])) == ["db1", "web1", "web2"]
    assert list(view.in_groups(["edge", "db"])) == ["web1"]
    assert list(view.in_groups([])) == []
    assert list(view.members("vpn", "backbone")) == ["web1"]
    assert [found.name for found in view.tombstones(HOST)] == ["old"]
    assert view.get(HOST, "old") is None
    assert view.get(HOST, "web1") == ROWS[1]
    assert view.get("nothing", "web1") is None


DELETED = st.booleans()
SOME_HOST = st.sampled_from(["db1", "web1", "web2"])
CHANGES = st.one_of(
    st.builds(
        lambda name, deleted, apart: row(HOST, name, deleted, id=name, quarantined=apart),
        SOME_HOST,
        DELETED,
        st.booleans(),
    ),
    st.builds(
        lambda name, service, deleted, state: row(AGENT, f"{name}/{service}", deleted, state=state),
        SOME_HOST,
        st.sampled_from(["vpn", "firewall"]),
        DELETED,
        st.sampled_from(["ready", "down", "left"]),
    ),
)


@given(turns=st.lists(st.tuples(st.booleans(), st.lists(CHANGES, max_size=3)), max_size=8))
def test_a_later_view_is_as_one_that_is_made_anew(turns: list[tuple[bool, list[Row]]]) -> None:
    view, live = View("shop", 0, []), dict[tuple[str, str], Row]()
    for number, (asked, rows) in enumerate(turns, 1):
        if asked:
            view.hosts, view.gone  # noqa: B018  # what was found once is brought up to date
        view = view.after(number, rows)
        for each in rows:
            live.pop((each.kind, each.name), None)
            if not each.deleted:
                live[each.kind, each.name] = each
        anew = View("shop", number, live.values())
        assert list(view) == list(anew)
        if asked:
            assert list(view.hosts.items()) == list(anew.hosts.items())
            assert list(view.everybody.items()) == list(anew.everybody.items())
            assert not any(host.quarantined for host in view.hosts.values())
            assert view.gone == anew.gone


def test_names_of_several_parts_are_joined_by_a_slash() -> None:
    assert joined("backbone", "web1") == "backbone/web1"
    assert joined("backbone", "") == "backbone/"


def test_every_error_comes_back_over_the_bus_as_itself() -> None:
    known = [
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, errors.CnsmoError)
    ]
    assert len({found.code for found in known}) == len(known)
    for found in known:
        again = errors.from_code(found.code, "what happened", {"a": 1})
        assert type(again) is found
        assert (str(again), again.details) == ("what happened", {"a": 1})
    assert type(errors.from_code("from-the-future", "x", {})) is errors.CnsmoError


def test_a_refusal_never_says_which_credential_was_wrong() -> None:
    assert str(errors.Denied()) == "not allowed: unknown or wrong credentials"


@pytest.mark.parametrize("kind", [errors.NotFound, errors.Conflict, errors.Unavailable])
def test_errors_that_scripts_tell_apart_have_exit_codes_of_their_own(
    kind: type[errors.CnsmoError],
) -> None:
    assert kind.exit_code not in (0, 1, 2)


def test_what_is_made_once_is_kept_as_long_as_the_view() -> None:
    made: list[int] = []
    view, other = View("shop", 7, ROWS), View("shop", 8, ROWS)
    for asked in (view, view, other):
        assert asked.once(("vpn", "scene"), lambda: made.append(1) or len(made)) == len(made)
    assert view.once(("vpn", "nothing"), lambda: None) is None
    assert len(made) == 2
