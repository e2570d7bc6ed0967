# SPDX-License-Identifier: Apache-2.0
import argparse
import datetime

import pytest

from cnsmo.manage import cells, durations
from cnsmo.manage.style import Style


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (0.96, "1.0 s"),
        (12.9, "12 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (86400 * 2, "2 d"),
        (86400 * 400, "400 d"),
    ],
)
def test_ages_are_short_and_never_rounded_up_to_more(seconds, shown):
    assert cells.age(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1258291, "1.2 MiB"),
        (5 * 2**40, "5.0 TiB"),
        (3 * 2**60, "3072.0 PiB"),
    ],
)
def test_sizes_are_in_binary_units(count, shown):
    assert cells.size(count) == shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604800), ("2w", 1209600),
     ("1d12h", 129600), ("0", 0)],
)  # fmt: skip
def test_durations_have_units(text, seconds):
    assert durations.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1y", "-1", "1.5h", "1 h", "٣h", "1h30", "9" * 40])
def test_what_is_no_duration_says_what_one_looks_like(text):
    with pytest.raises(argparse.ArgumentTypeError, match="7d"):
        durations.seconds(text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(604800, "7 days"), (86400, "1 day"), (3600, "1 hour"), (90, "90 s"), (0, "0 s")],
)
def test_durations_in_words(seconds, said):
    assert durations.words(seconds) == said


def test_cells_are_words_for_people_and_data_for_programs():
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert cells.Age(12.34).human_readable() == "12 s ago"
    assert cells.Age(12.34).machine_readable() == 12.3
    assert cells.Age(None).human_readable() == "-"
    assert cells.Age(None).machine_readable() is None
    assert cells.Moment(moment).machine_readable() == "2026-01-02T03:04:05+00:00"
    assert cells.Moment(moment).human_readable() == moment.astimezone().strftime(
        "%Y-%m-%d %H:%M:%S"
    )
    assert cells.Moment(None).human_readable() == "-"
    assert cells.Moment(None).machine_readable() is None
    assert cells.Names(["a", "b"]).human_readable() == "a, b"
    assert cells.Names(["a", "b"], lines=True).human_readable() == "a\nb"
    assert cells.Names([]).human_readable() == "-"
    assert cells.Tree({"b": [1], "a": "é"}).human_readable() == "b:\n- 1\na: é"
    assert cells.Tree({}).human_readable() == "-"
    assert cells.Cell("x").human_readable() == "x"


def test_lines_of_text_hold_lists_joined_and_nothing_as_nothing():
    assert cells.plain(None) == ""
    assert cells.plain(cells.Names(["a", "b"])) == "a,b"
    assert cells.plain({"a": [1]}) == '{"a":[1]}'
    assert cells.plain(3) == 3


def test_tables_hold_no_none_and_no_true():
    assert [cells.shown(value) for value in (None, True, False, 0, "x")] == [
        "-",
        "yes",
        "no",
        0,
        "x",
    ]


class Stream:
    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "env", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_whose_owner_wants_it(terminal, env, coloured):
    style = Style.of(Stream(terminal), env)
    assert ("\033[" in style.state("error")) is coloured
    assert cells.State("error", style).machine_readable() == "error"
    assert style.state("no-such-state") == "no-such-state"
