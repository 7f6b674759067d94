"""A report shows what was found, and nothing that it must not."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec

from tasks.data.duplicates import Cluster, DuplicateReport
from tasks.data.gates import Check
from tasks.data.quoting import quoted
from tasks.data.reporting import html, write_report
from tasks.data.reporting.findings import duplicates_section
from tasks.data.reporting.markdown import markdown
from tasks.data.reporting.report import SCHEMA, Bar, Chart, Figure, Report, Sample, Section

CANARY = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"
VOID = {"meta", "rect", "br", "img", "link", "input"}


def report(text: str = "plain", **changes: object) -> Report:
    chart = [
        Chart(text, kind, [Bar(text, 3), Bar("other", 0), Bar("third", 1)], text) for kind in ("histogram", "ranking")
    ]
    section = Section(
        "answers", text, text, [Figure(text, text, "problem", text)], chart, [Sample([3], text, text)], text
    )
    whole = Report(
        title=text,
        source=text,
        created="2026-01-01T00:00:00+00:00",
        examples=3,
        passed=False,
        checks=[Check("max_pii", 0.0, 3, None, False), Check("max_mojibake", 0.5, 1, 1 / 3, True)],
        headline=[Figure(text, 3)],
        sections=[section, Section("leaks", "Leakage", skipped=text)],
        seconds={"profile": 0.25},
        data={},
    )
    return msgspec.structs.replace(whole, **changes)


class Tags(HTMLParser):
    """The tags and attributes of a page, and whether every one is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = html(report())
    tags = Tags(page)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(tags.names)
    assert "://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert all(name not in ("src", "srcset") and not name.startswith("on") for name, _ in tags.attributes)
    assert all(str(value).startswith("#") for name, value in tags.attributes if name == "href")


def test_copies_that_are_meant_are_counted_and_not_listed():
    meant, accident = (Cluster(kind, 2, (1, 2), {kind: 1}, 1.0) for kind in ("reuse", "exact"))
    counts = dict.fromkeys(("normalised", "near", "coincident", "uncompared"), 0)
    report = DuplicateReport(
        examples=4, distinct=2, exact=1, reuse=1, cluster_count=2, clustered=4, clusters=(accident, meant), **counts
    )
    section = duplicates_section(report)
    assert [sample.text for sample in section.samples] == ["exact"]
    assert [figure.value for figure in section.figures if figure.label == "Meant"] == [1]


def test_what_comes_from_the_data_is_text_and_never_markup() -> None:
    page = html(report(CANARY))
    tags = Tags(page)
    assert tags.open == []
    assert not {"script", "img"} & set(tags.names)
    assert CANARY in "".join(tags.texts)
    assert "49" not in "".join(tags.texts)


def test_what_comes_from_the_data_means_nothing_in_markdown() -> None:
    text = markdown(report(CANARY + "\n# heading | cell `code` [link](to) ```"))
    outside = re.sub(r"```text\n.*?\n```", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<(script|img)", outside)
    assert not re.search(r"(?<!\\)\[link", outside)
    assert text.count("\n# ") == 0
    assert text.count("```") == 2 * outside.count("**\\<script")


def test_all_forms_tell_the_same(tmp_path: Path) -> None:
    told = report("Numbers", headline=[Figure("Examples", 12_345)])
    write_report(tmp_path / "report", told)
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.html", "report.json", "report.md"]
    for name in ("report.html", "report.md"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert "12,345" in text
        assert "max_mojibake" in text
        assert "33.33" in text
    assert msgspec.json.decode((tmp_path / "report" / "report.json").read_bytes(), type=Report) == told


def test_the_json_keeps_its_schema() -> None:
    fields = {name: list(kind.__struct_fields__) for name, kind in {"Report": Report, "Section": Section}.items()}
    assert SCHEMA == 1
    assert fields == {
        "Report": [
            "title", "source", "created", "examples", "passed", "checks", "headline", "sections", "seconds", "data",
            "schema",
        ],
        "Section": ["key", "title", "summary", "figures", "charts", "samples", "limits", "skipped"],
    }  # fmt: skip


def test_a_quotation_is_short_masked_and_on_one_line() -> None:
    shown = quoted("Write to jane.doe@acme-mail.com\nor call.\x1b[31m " + "x" * 500)
    assert "jane.doe@acme-mail.com" not in shown
    assert len(shown) <= 160
    assert shown.isprintable()


def test_a_chart_without_bars_is_drawn() -> None:
    empty = Section("answers", "Answers", charts=[Chart("none", "histogram", []), Chart("none", "ranking", [])])
    told = report(sections=[empty])
    assert Tags(html(told)).open == []
    assert "none" in markdown(told)
