"""What MkDocs adds to the manual: tables that are made from the program itself.

A page marks the place of a table with ``<!-- made from the program: NAME -->`` and ``<!-- end -->``. What stands
between them is for those who read the page's source; the table replaces it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from reference_tables import columns, commands, configuration, payloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_TABLES: Final[dict[str, Callable[[], str]]] = {
    "options of fer-edge": commands.root_table,
    "commands": commands.command_tables,
    "keys": configuration.key_tables,
    "payloads": payloads.payload_tables,
    "columns of faces": columns.faces_table,
    "columns of periods": columns.periods_table,
    "columns of events": columns.events_table,
}
_MARKED: Final = re.compile(r"<!-- made from the program: ([\w -]+?) -->.*?<!-- end -->", re.DOTALL)
_UPWARD_LINK: Final = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)\s]*)?\)")
_DOCS: Final = Path(__file__).resolve().parent
_ROOT: Final = _DOCS.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the JSON Schemas of the messages."""
    for name, schema in payloads.schemas().items():
        content = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        files.append(File.generated(config, f"reference/schemas/{name}.json", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:  # noqa: ANN401 - whatever else MkDocs gives
    """Put the tables in their places, and name files of the repository that a page of the site cannot link to."""
    text = _MARKED.sub(lambda found: _table(found[1], page), markdown)
    folder = _DOCS / Path(page.file.src_uri).parent
    return _UPWARD_LINK.sub(lambda found: _name_file(found, folder), text)


def _table(name: str, page: Page) -> str:
    if name not in _TABLES:
        raise PluginError(f"{page.file.src_uri}: there is no table {name!r}, only: {', '.join(_TABLES)}")
    return _TABLES[name]()


def _name_file(link: re.Match[str], folder: Path) -> str:
    """Return a link as it is if it stays inside the manual; otherwise its text and the file's path."""
    target = (folder / link[2]).resolve()
    if target.is_relative_to(_DOCS) or not target.is_relative_to(_ROOT) or not target.exists():
        return link[0]
    path = str(target.relative_to(_ROOT))
    return f"`{path}`" if link[1].strip("`") == path else f"{link[1]} (`{path}`)"
