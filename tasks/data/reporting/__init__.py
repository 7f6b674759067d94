"""An audit's report as files: HTML that needs nothing else, Markdown and JSON of the same data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from tasks.data.reporting.geometry import draw
from tasks.data.reporting.markdown import markdown
from tasks.data.reporting.report import number, placed

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Template

    from tasks.data.reporting.report import Report


def write_report(folder: Path, report: Report) -> None:
    """Write report.html, report.md and report.json into a new folder."""
    folder.mkdir(parents=True)
    (folder / "report.html").write_text(html(report), encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def html(report: Report) -> str:
    """The report as one page: no script, no resource from elsewhere, light and dark as the reader's system is."""
    return _template().render(report=report, draw=draw, number=number, placed=placed)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined  # 90 ms

    source = files(__name__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
