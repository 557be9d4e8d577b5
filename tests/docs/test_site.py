"""The manual builds, is whole, and works from a folder without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import unquote, urldefrag

import jsonschema
import msgspec
import pytest
import typer

from fer_edge.cli import app
from fer_edge_device import messages
from fer_edge_device.config.load import _fields, load_config
from fer_edge_device.config.settings import Config
from fer_edge_device.history.export import write_events, write_periods
from fer_edge_device.history.rows import PastEvent, Period
from fer_edge_device.live_settings import LiveSettings, SettingsChange
from tests.device.web.browser import CHROMIUM, needs_chromium, new_page

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("site")  # one worker, so that the manual is built once

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """What a page of the site consists of.

    Attributes:
        ids: the anchors.
        links: where its links lead.
        assets: what a browser loads for it.
        text: its text.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.text = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" or "src" in values:
            self.assets.append(values.get("src") or values.get("href", ""))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html")}


def test_links_and_anchors_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for file, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            target = (file.parent / unquote(address)).resolve() if address else file
            if re.match(r"\w+:", link) or file.name == "404.html":
                continue
            if not target.exists() or (anchor and target in pages and unquote(anchor) not in pages[target].ids):
                broken.append(f"{file.relative_to(site)}: {link}")
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 100


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    assert [one for page in pages.values() for one in page.assets if re.match(r"(\w+:)?//", one)] == []


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer may bring a click of its own
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {child}")


def test_every_command_and_option_is_there(site: Path) -> None:
    text = (site / "reference" / "commands.html").read_text()
    found = [*commands(typer.main.get_command(app), "fer-edge")]
    assert len(found) > 25
    for name, command in found[1:]:
        begin = text.index(f'id="{name.replace(" ", "-")}"')
        section = text[begin : text.index("<h", begin + 1) if "<h" in text[begin + 1 :] else None]
        for parameter in command.params:
            words = parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]
            for word in (*words, *parameter.secondary_opts):
                assert re.search(rf"<code>{re.escape(word)}(\.\.\.)?</code>", section), (name, word)


def test_tables_of_commands_say_what_typer_checks(pages: dict[Path, Page], site: Path) -> None:
    text = " ".join(pages[site / "reference" / "commands.html"].text.split())
    assert "--tolerance number, 0 to 1,000 default: 5 Allowed growth of a median" in text
    assert "--detector network , yunet default: network Face detector." in text
    assert "--web [HOST:]PORT Serve a live page there" in text
    assert "only this machine can open it. key: web.listen" in text
    assert text.count(" key: ") == 15
    assert "MODEL path required A .keras" in text


def test_every_key_is_there_with_its_variable(pages: dict[Path, Page], site: Path) -> None:
    page = pages[site / "reference" / "configuration.html"]
    for key, _ in _fields(Config):
        assert key in page.ids
    variables = re.findall(r"FER_EDGE_[A-Z0-9_]+", page.text.rpartition("Without a section")[2])
    assert len(variables) == len([*_fields(Config)])
    defaults = {f"FER_EDGE_{key.replace('.', '_').upper()}": str(field.default) for key, field in _fields(Config)}
    given = {
        name: defaults[name].lower() if defaults[name] in {"True", "False"} else defaults[name] for name in variables
    }
    assert load_config(environment=given) == Config()


def test_tables_of_keys_say_what_the_configuration_checks(pages: dict[Path, Page], site: Path) -> None:
    text = " ".join(pages[site / "reference" / "configuration.html"].text.split())
    assert "fps number, 0.1 to 120 default: 10.0 frames per second processed" in text
    assert "stall_timeout_s number, above 0, at most 3,600 default: 5.0 seconds" in text
    assert 'autofocus "continuous" , "off" , "once" default: "continuous" autofocus' in text
    assert "Where frames come from. A change takes effect after a restart; one of fps or idle_fps on SIGHUP." in text


def test_every_field_of_a_message_is_there(site: Path, pages: dict[Path, Page]) -> None:
    text = (site / "reference" / "messages.html").read_text()
    for struct in (messages.Event, messages.State, messages.Stats, messages.Info, LiveSettings, SettingsChange):
        for field in struct.__struct_fields__:
            assert f"<td><code>{field}</code></td>" in text, (struct, field)
    words = " ".join(pages[site / "reference" / "messages.html"].text.split())
    assert "temp_c number unit: °C or null temperature of the processor" in words
    assert "stages → p95 number unit: ms 95th percentile." in words
    assert "time number unit: s for a live source, seconds since 1970" in words
    listed = re.findall(r"<tr>\s*<td><code>([a-z/]+)</code></td>\s*<td>(yes|no)?</td>\s*<td>(\d)?</td>", text)
    assert {topic for topic, *_ in listed} == {*get_args(messages.Kind)}
    for topic, retained, _ in listed:
        if not topic.endswith("/set"):
            assert (retained == "yes") == (topic in messages.RETAINED)


def test_every_column_is_there(pages: dict[Path, Page], site: Path, tmp_path: Path) -> None:
    page = pages[site / "reference" / "tables.html"]
    faces, periods, events = re.split(r"Periods:|Events:", page.text.rpartition("Faces:")[2])
    table = tmp_path / "faces.csv"
    command = [sys.executable, "-m", "fer_edge.cli", "tag", str(ROOT / "tests" / "data" / "faces.webp")]
    subprocess.run([*command, "--face", "--quiet", "--out", str(table)], check=True)
    write_periods(tmp_path / "periods.csv", [Period(start=0, face_s=1.0, emotion_s={"happy": 1.0})])
    event = PastEvent(
        1.0, "new", "1-1", "happy", 0.9, None, 0.0, 0.1, 0.2, 0.3, 0.4, "edge", scores={"happy": 0.9}, reliable=True
    )
    write_events(tmp_path / "events.csv", [event])
    for text, written in ((faces, "faces.csv"), (periods, "periods.csv"), (events, "events.csv")):
        header = (tmp_path / written).read_text().partition("\n")[0].strip().split(",")
        for name in header:
            general = re.sub(r"^(score|seconds)_.*", r"\1_LABEL", name)
            assert f" {general} " in " ".join(text.split()), (written, name)
    assert "x number, in pixels of the upright image left edge" in " ".join(faces.split())
    assert "x number, as a fraction of the image's width left edge" in " ".join(events.split())


@pytest.fixture(scope="module")
def schemas(site: Path) -> dict[str, Any]:
    found = {file.stem: json.loads(file.read_text()) for file in (site / "reference" / "schemas").iterdir()}
    for schema in found.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    return found


def test_real_messages_are_as_their_schemas_say(schemas: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "fer_edge.cli", "run", "--source", "demo", "--full-speed", "--node", "demo"]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
    topics = {"settings/state": "settings"}
    seen = set()
    for line in map(json.loads, lines):
        topic, payload = line["topic"].removeprefix("fer-edge/demo/"), line["payload"]
        if isinstance(payload, str):
            continue
        schema = schemas[topics.get(topic, topic)]
        jsonschema.validate(payload, schema)
        assert payload.keys() == schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"].keys()
        seen.add(topic)
    assert seen == {"event", "state", "stats", "info", "settings/state"}


def test_schemas_refuse_what_is_no_message(schemas: dict[str, Any]) -> None:
    state = messages.State(time=1.5, faces=1, emotion="happy", scores={"happy": 0.9}, counts={"happy": 1})
    good = msgspec.to_builtins(state)
    jsonschema.validate(good, schemas["state"])
    for change in ({"faces": -1}, {"scores": {"happy": 1.1}}, {"emotion": 5}, {"time": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | change, schemas["state"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: good[name] for name in good if name != "counts"}, schemas["state"])
    jsonschema.validate({"margin": 0.2}, schemas["settings-change"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"margin": 2}, schemas["settings-change"])


@needs_chromium
def test_search_works_from_a_folder(site: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = new_page(browser)
        page.goto((site / "reference" / "commands.html").as_uri())
        page.get_by_role("textbox", name="Search").first.click()
        page.keyboard.type("idle_fps")
        page.locator(".md-search-result__link", has_text="camera").first.wait_for()
        browser.close()
