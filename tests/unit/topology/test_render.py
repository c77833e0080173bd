from __future__ import annotations

import re
from pathlib import Path

from topology.graph import build_graph
from topology.render import files_made, mermaid, pages, settings_page, stale, write
from topology.settings import Settings

GRAPH = build_graph(4)


def test_the_committed_pages_are_fresh() -> None:
    assert stale() == []


def test_a_missing_or_edited_page_is_stale(tmp_path: Path) -> None:
    assert sorted(stale(tmp_path)) == sorted(files_made())
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "docs/generated/settings.md").write_text("mine")
    assert stale(tmp_path) == ["docs/generated/settings.md"]


def test_every_edge_is_in_the_diagram_once() -> None:
    arrows = [line for line in mermaid(GRAPH).splitlines() if "->" in line]
    edges = sum(
        len(s.consumes + s.broadcast + s.produces + s.reads + s.writes)
        for s in GRAPH.stages.values()
    )
    assert len(arrows) == len(set(arrows)) == edges


def test_every_node_of_the_diagram_is_defined() -> None:
    text = mermaid(GRAPH)
    defined = set(re.findall(r"^  (\w+)[\[(>]", text, re.M))
    used = set(re.findall(r"^  (\w+) -", text, re.M)) | set(re.findall(r"> (\w+)$", text, re.M))
    assert used
    assert used <= defined


def test_every_setting_is_documented_by_its_variable() -> None:
    page = settings_page()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"| `{(field.alias or name).upper()}` |" in page


def test_tables_are_whole() -> None:
    for name, page in pages().items():
        for line in page.splitlines():
            if line.startswith("|"):
                assert line.endswith("|"), (name, line)
        for block in re.findall(r"(?:^\|.*\n)+", page, re.M):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(columns) == 1, (name, block)
