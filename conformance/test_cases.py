"""`CASES.md` is complete and true: every case is there, and what it says is tested has a test."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ROW = re.compile(r"\| (\d+) \| (server|client fact|later) \| ?(.*?) ?\|")
TEST = re.compile(r"^(?:async )?def test_core((?:_\d+)+)_", re.MULTILINE)


EXTENDED = re.compile(r"\| (\d+) \| (?:`(\w+)`)? ?\| ?(.*?) ?\|")


def cases() -> dict[int, tuple[str, str]]:
    rows = [m.groups() for line in (HERE / "CASES.md").read_text().splitlines() if (m := ROW.fullmatch(line))]
    assert len({number for number, _, _ in rows}) == len(rows), "a case is listed twice"
    return {int(number): (kind, why) for number, kind, why in rows}


def cases_with_tests() -> set[int]:
    sources = [path.read_text() for path in HERE.glob("test_*.py")]
    return {int(n) for text in sources for names in TEST.findall(text) for n in names.strip("_").split("_")}


def test_every_case_is_classified():
    assert sorted(cases()) == list(range(1, 104))


def test_every_server_case_has_a_test():
    missing = {number for number, (kind, _) in cases().items() if kind == "server"} - cases_with_tests()
    assert missing == set()


def test_every_other_case_has_a_reason():
    assert [number for number, (kind, why) in cases().items() if kind != "server" and not why] == []


def test_no_case_that_waits_has_a_test_already():
    assert {number for number, (kind, _) in cases().items() if kind == "later"} & cases_with_tests() == set()


def test_every_extended_case_of_identity_is_shown_or_has_a_reason():
    extended = (HERE / "CASES.md").read_text().partition("## Identity in the extended list")[2]
    rows = {int(m[1]): (m[2], m[3]) for line in extended.splitlines() if (m := EXTENDED.fullmatch(line))}
    assert sorted(rows) == [65, *range(72, 76), *range(80, 94), *range(98, 101)]
    sources = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    for number, (test, why) in rows.items():
        assert f"def {test}(" in sources if test else why, number
