"""The documentation and the code say the same: keys, messages, routes, verbs, errors, links.

All in one file, since every part reads the same pages through the same few functions.
"""

import logging
import os
import re
import shlex
import socket
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
import pytest
import typer.main
from msgspec import NODEFAULT, inspect

import edge_agent.cli
import hub.cli
from edge_agent.calibration import Calibration
from edge_agent.errors import DataError
from edge_agent.pausing import Comfort, find
from edge_agent.planner import choose, ladder
from edge_agent.probe.conditions import Conditions
from edge_agent.training.data import count
from hub.aggregation.strategies import catalogue as strategies
from hub.aggregation.strategies import defaults
from hub.api import control
from hub.api.app import create_app
from hub.api.enrolment import create_enrolment_app
from hub.api.server import HttpServer
from hub.broker import BrokerError, start_broker
from hub.cli.client import HubClient
from hub.config import HubFile, check_bindings, load_hub_file
from hub.errors import ConfigError, HubError
from hub.fleet.gate import Gate
from hub.fleet.sessions import Sessions
from hub.hash_cache import HashCache
from hub.job_parts import ModelPart
from hub.jobs import JobFile, parse_job
from hub.models import load_model
from hub.rounds.reception import Reception
from hub.scheduling.contract import DeviceView, JobView
from hub.scheduling.schedule import schedule
from hub.store.identities import Identity
from hub.yaml_file import parse_yaml
from hub.yaml_text import load_mapping
from wire import messages, transfer, version
from wire.codecs.names import CODEC_NAMES
from wire.enrolment import EnrolFailure, EnrolReply, EnrolRequest, RenewRequest
from wire.link import Link
from wire.messages import Hello, JobKnobs, Message, ModelShape, Refused, RungPlan, catalogue
from wire.quiet_log import QuietLog
from wire.topics import Topics
from wire.transfer import Chunk

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: Where people read commands and examples; decision records may speak of what is to come.
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
_SHELL = ("", "sh", "bash", "console", "shell")


# Reading Markdown


class Fence(NamedTuple):
    """A code block."""

    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text[:40]!r}"


def fences(page: Path) -> list[Fence]:
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [Fence(page.name, language, text) for language, text in found]


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def sections(name: str) -> dict[str, str]:
    """Return a page's text under each heading, down to the next one."""
    parts = re.split(r"^#+ +(.*)$", (DOCS / name).read_text(), flags=re.M)
    return dict(zip([part.replace("`", "") for part in parts[1::2]], parts[2::2], strict=True))


def rows(text: str) -> dict[str, list[str]]:
    """Return a section's table rows by their first cell; a row is there once."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    named = [row for row in cells if row[0].startswith("`")]
    found = {row[0].strip("`"): row for row in named}
    assert len(found) == len(named), "a row stands there twice"
    return found


# Configuration files


def keys(info: inspect.Type, path: str = "") -> Iterator[tuple[str, inspect.Field]]:
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        below = f"{path}.{field.encode_name}" if path else field.encode_name
        if isinstance(field.type, inspect.StructType):
            yield from keys(field.type, below)
        else:
            yield below, field


def members(info: inspect.Type) -> tuple[inspect.Type, ...]:
    return tuple(info.types) if isinstance(info, inspect.UnionType) else (info,)


FILES = {"job-file.md": JobFile, "hub-file.md": HubFile}
KEYS = [(page, key, field) for page, kind in FILES.items() for key, field in
        keys(inspect.type_info(kind))]  # fmt: skip


@pytest.mark.parametrize(("page", "kind"), FILES.items())
def test_a_file_page_lists_exactly_the_keys_there_are(page: str, kind: type) -> None:
    assert set(rows(sections(page)["Keys"])) == {key for key, _ in keys(inspect.type_info(kind))}


@pytest.mark.parametrize(("page", "key", "field"), KEYS, ids=[f"{p}-{k}" for p, k, _ in KEYS])
def test_a_key_is_documented_with_its_default_and_what_is_allowed(
    page: str, key: str, field: inspect.Field
) -> None:
    _, default, _, allowed, why = rows(sections(page)["Keys"])[key]
    if field.required:
        assert default == "required"
    else:
        wanted = field.default if field.default_factory is NODEFAULT else field.default_factory()
        wanted = os.fspath(wanted) if isinstance(wanted, Path) else wanted
        assert load_mapping(f"value: {default.strip('`')}", "a cell")["value"] == wanted
    for part in members(field.type):
        match part:
            case inspect.IntType() | inspect.FloatType():
                least = f"above {part.gt:g}, to" if part.gt is not None else f"{part.ge} to"
                assert f"{least} {part.le}" in allowed
            case inspect.LiteralType():
                assert all(f"`{value}`" in allowed for value in part.values)
            case inspect.NoneType():
                assert "`null`" in allowed
            case _:
                pass
    assert why.endswith(".")


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("codec", ["auto", *CODEC_NAMES]),
        ("method", ["lora", "prompt", "lora+prompt"]),
        ("strategy", [name for name, one in strategies().items() if one.basis == "any"]),
    ],
)
def test_a_choice_that_the_page_explains_is_one_that_parses(key: str, names: list[str]) -> None:
    for name in names:
        assert getattr(parse_job(f"job: a\nmodel: {{base: b}}\n{key}: {name}"), key) == name
        assert f"`{name}`" in rows(sections("job-file.md")["Keys"])[key][3]


@pytest.mark.parametrize("name", strategies())
def test_a_strategy_is_explained_with_its_paper_and_defaults(name: str) -> None:
    what, settings = rows(sections("job-file.md")["strategy"])[name][1:]
    assert "(https://arxiv.org/abs/" in what
    said = load_mapping("{" + settings.replace("`", "") + "}", "a cell")
    assert said == pytest.approx(defaults(name))


@pytest.mark.parametrize("name", strategies())
def test_a_strategy_has_a_job_file(name: str) -> None:
    assert parse_job((DOCS / "jobs" / f"{name}.yaml").read_text()).strategy == name


METHODS = get_args(get_type_hints(JobFile)["method"])


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_job_file(name: str) -> None:
    assert parse_job((DOCS / "jobs" / f"{name}.yaml").read_text()).method == name


YAML = [fence for page in PAGES for fence in fences(page) if fence.language == "yaml"]


@pytest.mark.parametrize("fence", YAML, ids=str)
def test_an_example_of_a_configuration_file_parses(fence: Fence, tmp_path: Path) -> None:
    if "job" in load_mapping(fence.text, fence.page):
        parse_job(fence.text)
    else:
        (tmp_path / "hub.yaml").write_text(fence.text)
        load_hub_file(tmp_path / "hub.yaml", insecure=True)


def test_the_complete_job_file_has_every_key_and_only_defaults() -> None:
    text = fences(DOCS / "job-file.md")[0].text
    assert all_keys(load_mapping(text, "it")) == {key for key, _ in keys_of(JobFile)}
    model = ModelPart(base="./models/base")
    assert parse_job(text) == JobFile(job="clinic-notes", model=model)


def test_the_complete_hub_file_has_every_key_and_only_defaults() -> None:
    text = fences(DOCS / "hub-file.md")[0].text
    assert all_keys(load_mapping(text, "it")) == {key for key, _ in keys_of(HubFile)}
    assert parse_yaml(text, HubFile, "it") == HubFile()


def keys_of(kind: type) -> Iterator[tuple[str, inspect.Field]]:
    return keys(inspect.type_info(kind))


def all_keys(data: dict[str, Any], path: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in data.items():
        below = f"{path}.{key}" if path else key
        # An empty mapping is a value of its own.
        found |= all_keys(value, below) if isinstance(value, dict) and value else {below}
    return found


# Topics and messages

FLEET, DEVICE, JOB, LAST = "F", "D", "J", "N"


def topic_of(kind: str) -> str:
    """Return a topic as Topics spells it, with letters in place of names."""
    words = {"job_round": (JOB,), "job_phase": (JOB,), "slice_chunk": (JOB, LAST), "hub_state": ()}
    named = (DEVICE, LAST) if kind in ("event", "request", "command") else (DEVICE,)
    spelt: str = getattr(Topics(FLEET), kind)(*words.get(kind, named))
    return spelt


def documented_topics() -> dict[str, list[str]]:
    """Return the table of topics, with letters in place of names."""
    short = {"{fleet}": FLEET, "{device}": DEVICE, "{job}": JOB}
    short |= dict.fromkeys(("{op}", "{type}", "{slice}"), LAST)
    found = {}
    for topic, row in rows(sections("topics.md")["All topics"]).items():
        found[re.sub(r"\{\w+\}", lambda match: short[match[0]], topic)] = row
    return found


def topic_kinds() -> list[str]:
    """Return the names of the methods of `Topics` that spell a topic."""
    methods = [name for name, value in vars(Topics).items() if callable(value)]
    return [name for name in methods if typing.get_type_hints(getattr(Topics, name)).get("return")
            is str and not name.startswith("_")]  # fmt: skip


def test_every_topic_is_documented_and_no_other() -> None:
    assert set(documented_topics()) == {topic_of(kind) for kind in topic_kinds()}


@pytest.mark.parametrize("kind", topic_kinds())
def test_a_topic_is_documented_with_its_qos_and_retain_flag(kind: str) -> None:
    row = documented_topics()[topic_of(kind)]
    users = [message for message in catalogue() if kind == message.ROUTE]
    qos = {m.QOS for m in users} or {Chunk.QOS[kind]}
    retained = {m.RETAIN for m in users} or {False}
    assert ({int(row[2])}, {row[3] == "yes"}) == (qos, retained)


@pytest.mark.parametrize("message", catalogue(), ids=lambda kind: kind.__name__)
def test_a_message_is_documented_with_its_topic_and_flags(message: type[Message]) -> None:
    text = sections("topics.md")[message.__name__]
    topic, qos, rest = re.findall(r"\ATopic `(\S+)`, QoS (\d)([^.]*)", text.strip())[0]
    letters = {"fleet": FLEET, "device": DEVICE, "job": JOB, "type": LAST}
    spelt = re.sub(r"\{(\w+)\}", lambda match: letters[match[1]], topic)
    assert spelt == topic_of(message.ROUTE).removesuffix(LAST) + (message.NAME or "") or (
        message.NAME is None and spelt == topic_of(message.ROUTE)
    )
    assert int(qos) == message.QOS
    assert ("retained" in rest) == message.RETAIN
    tag = inspect.type_info(message).tag  # type: ignore[attr-defined]
    assert tag is None or f"`type` is `{tag}`" in text


@pytest.mark.parametrize("message", catalogue(), ids=lambda kind: kind.__name__)
def test_a_request_is_documented_with_its_replies_and_no_other(message: type[Message]) -> None:
    told = re.findall(r"Answered by\s(.*?)\n\n", sections("topics.md")[message.__name__], re.S)
    replies = {kind.__name__ for kind in catalogue() if kind.ROUTE == "reply"}
    named = set(re.findall(r"`(\w+)`", " ".join(told))) & replies
    assert named == set(message.ANSWERS)


def structs(kind: type) -> Iterator[type]:
    """Return a struct and all that are parts of it."""
    yield kind

    def inside(info: inspect.Type) -> Iterator[type]:
        match info:
            case inspect.StructType():
                yield from structs(info.cls)
            case inspect.UnionType():
                for part in info.types:
                    yield from inside(part)
            case inspect.ListType():
                yield from inside(info.item_type)
            case inspect.DictType():
                yield from inside(info.value_type)
            case _:
                pass

    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        yield from inside(field.type)


def http_documents() -> list[type]:
    """Return the structs that `hub.api.control` itself defines and names publicly."""
    found = [value for name, value in vars(control).items() if not name.startswith("_")]
    structs = [
        kind for kind in found if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ]
    return [kind for kind in structs if kind.__module__ == control.__name__]


PARTS = {part.__name__: part for message in catalogue() for part in structs(message)}
STRUCTS = [("topics.md", part) for part in PARTS.values()]
STRUCTS += [("http.md", document) for document in http_documents()]
STRUCTS += [
    ("enrolment.md", kind) for kind in (EnrolRequest, RenewRequest, EnrolReply, EnrolFailure)
]


@pytest.mark.parametrize(("page", "kind"), STRUCTS, ids=[kind.__name__ for _, kind in STRUCTS])
def test_a_struct_is_documented_field_by_field(page: str, kind: type) -> None:
    table = rows(sections(page)[kind.__name__])
    fields = {field.encode_name: field for field in inspect.type_info(kind).fields}  # type: ignore[attr-defined]
    assert list(table) == list(fields)
    for name, field in fields.items():
        _, told, meaning = table[name]
        types = members(field.type)
        assert any(isinstance(part, inspect.NoneType) for part in types) == ("or null" in told)
        if isinstance(field.default, bool | int | float | None) or field.default == "":
            words = {"": "empty"}.get(field.default, msgspec.json.encode(field.default).decode())
            assert f"default {words.removesuffix('.0')}" in told, name
        assert field.required == ("default" not in told), name
        for part in types:
            if isinstance(part, inspect.LiteralType):
                assert all(f"`{value}`" in meaning for value in part.values) or "as in" in meaning


@pytest.mark.parametrize("name", rows(sections("topics.md")["Rules"]))
def test_a_limit_is_documented_with_its_value(name: str) -> None:
    where = next(one for one in (version, messages, transfer) if hasattr(one, name))
    assert int(rows(sections("topics.md")["Rules"])[name][1]) == getattr(where, name)


# HTTP


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
def test_every_route_is_documented_and_no_other() -> None:
    app = create_app(typing.cast("control.HubControl", None))
    routes = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    routes.add(("GET", str(app.openapi_url)))
    lines = re.findall(r"^\| ([A-Z]+) \| `(\S+)` \|", (DOCS / "http.md").read_text(), re.M)
    assert set(lines) == routes
    assert len(lines) == len(routes)


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
def test_every_route_for_enrolling_devices_is_documented_and_no_other() -> None:
    nobody = typing.cast("Any", None)
    app = create_enrolment_app(nobody, nobody)
    routes = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    text = (DOCS / "enrolment.md").read_text()
    lines = re.findall(r"^\| ([A-Z, ]+) \| `(\S+)` \|", text, re.M)
    assert {(method, path) for methods, path in lines for method in methods.split(", ")} == routes


@pytest.mark.parametrize("state", ["unknown", "waiting", "revoked", "cloned", "enrolled"])
def test_the_reason_for_which_a_device_may_not_enter_is_quoted_as_it_reads(state: str) -> None:
    known = [] if state == "unknown" else [
        Identity(device="ward", key="k", public_key="p", state=typing.cast("Any", state), asked=0.0)
    ]  # fmt: skip
    refusal = Gate(known).refusal("ward", 1.0)
    assert refusal is not None
    assert is_quoted(refusal.reason)


# Command lines

PROGRAMS = {
    "lorikeet-hub": typer.main.get_command(hub.cli.app),
    "lorikeet-agent": typer.main.get_command(edge_agent.cli.app),
}


def verbs() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(name: str, command: Any) -> None:
        for word, below in getattr(command, "commands", {}).items():
            walk(f"{name} {word}", below)
        if not hasattr(command, "commands"):
            found[name] = command

    for program, command in PROGRAMS.items():
        walk(program, command)
    return found


VERBS = verbs()


def test_every_verb_is_documented_and_no_other() -> None:
    told = {heading for heading in sections("cli.md") if " " in heading and "lorikeet-" in heading}
    assert told == set(VERBS)


def option_name(param: Any) -> str:
    """Return ``--option``, or ``ARGUMENT``."""
    if param.param_type_name == "option":
        return str(max(param.opts, key=len))
    return str(param.name).upper()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_documented_with_its_options_and_an_example(verb: str) -> None:
    text = sections("cli.md")[verb]
    table = rows(text)
    options = {option_name(param): param for param in VERBS[verb].params}
    assert set(table) == set(options)
    for name, param in options.items():
        told = table[name][1].strip("`")
        if param.required:
            assert told == "required"
        elif isinstance(param.default, bool):
            assert told == "off"
        elif param.default is not None:
            assert told == str(getattr(param.default, "value", param.default))
        else:
            assert told not in ("required", "off", "")
    assert f"\n{verb}" in text, "an example is missing"


class Line(NamedTuple):
    """A command in a code block."""

    page: str
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands() -> Iterator[Line]:
    for page in PAGES:
        for fence in fences(page):
            if fence.language in _SHELL:
                for line in fence.text.replace("\\\n", " ").splitlines():
                    yield from _commands(page.name, line)


def _commands(page: str, line: str) -> Iterator[Line]:
    if not re.search(r"\b(lorikeet-hub|lorikeet-agent|make) ", line):
        return
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word[0] not in ";&|<>":
            words.append(word)
            continue
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)
        if words and Path(words[0]).name in (*PROGRAMS, "make"):
            yield Line(page, [Path(words[0]).name, *words[1:]])
        words = []


COMMANDS = list(commands())


def test_the_pages_show_commands_of_both_programs() -> None:
    assert set(PROGRAMS) <= {line.words[0] for line in COMMANDS if line.page == "README.md"}


@pytest.mark.parametrize("line", COMMANDS, ids=str)
def test_a_command_in_a_code_block_is_one_that_the_program_takes(line: Line) -> None:
    program, *words = line.words
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in words if "=" not in word} <= targets
        return
    command = PROGRAMS[program]
    while hasattr(command, "commands"):
        assert words, f"{line} names no verb"
        assert words[0] in command.commands, f"{line}: there is no verb {words[0]}"
        command = command.commands[words.pop(0)]
    if "--help" not in words:
        # Raises what the program would say: an unknown option, a value of the wrong type.
        command.make_context(program, words)


# Links


def markdown_files() -> list[Path]:
    found = list(ROOT.glob("*.md"))
    for folder in ("bench", "docker", "docs", "edge_agent", "hub", "k8s", "tests", "wire"):
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.*)$", prose(page), re.M)
    words = [re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings]
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(<?([^)>\s]+)>?\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page.name} links to {target}"


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    assert all(f"({page.name})" in index for page in DOCS.glob("*.md") if page.name != "README.md")


# Errors that the pages quote: each is provoked, and must read as the page says


def quoted() -> list["re.Pattern[str]"]:
    lines = [line for page in PAGES if page.parent == DOCS for fence in fences(page)
             if fence.language == "text" for line in fence.text.splitlines() if line]  # fmt: skip
    return [re.compile(re.escape(line).replace("…", ".+"), re.S) for line in lines]


def is_quoted(message: str) -> bool:
    return any(pattern.fullmatch(message) for pattern in quoted())


def job_with(text: str) -> str:
    return f"job: a\nmodel: {{base: b}}\n{text}"


def test_a_job_files_error_is_quoted_as_it_reads() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_job(job_with("lora: {min_rank: 32}"))
    assert is_quoted(str(raised.value))


@pytest.mark.parametrize("content", [[], ["config.json"]])
def test_a_models_error_is_quoted_as_it_reads(content: list[str], tmp_path: Path) -> None:
    for name in content:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError) as raised:
        load_model(str(tmp_path), HashCache(tmp_path / "hashes"))
    assert is_quoted(str(raised.value))


def test_an_absent_models_error_is_quoted_as_it_reads(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_model(str(tmp_path / "absent"), HashCache(tmp_path / "hashes"))
    assert is_quoted(str(raised.value))


def test_the_error_of_data_without_an_example_is_quoted_as_it_reads(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{not json\n[1]\n")
    with pytest.raises(DataError) as raised:
        count([tmp_path / "broken.jsonl"])
    assert is_quoted(str(raised.value))


def test_the_data_that_the_page_shows_has_no_broken_line(tmp_path: Path) -> None:
    [shown] = [f for f in fences(DOCS / "troubleshooting.md") if f.language == "json"]
    (tmp_path / "shown.jsonl").write_text(shown.text)
    found = count([tmp_path / "shown.jsonl"])
    assert (found.examples, found.skipped) == (2, 0)


def test_the_reason_of_role_none_is_quoted_as_it_reads() -> None:
    shape = ModelShape(
        model_type="llama", hidden_size=64, layers=2, mlp_size=128, heads=4, kv_heads=4,
        head_dim=16, vocab_size=256, tied_embeddings=False, parameters=100_000, weight_bytes=2,
    )  # fmt: skip
    knobs = JobKnobs(
        method="lora", rank=16, min_rank=2, batch=4, min_batch=1, seq_len=256, min_seq_len=128
    )
    chosen = choose(ladder(shape, knobs, 100_000_000, Calibration()))
    assert chosen.role == "none"
    assert is_quoted(chosen.reason)


@pytest.mark.parametrize(
    "changes",
    [{"temperature_c": 91.0}, {"battery_percent": 7.0}, {"memory_full_avg10": 60.0}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_reason_for_which_a_device_rests_is_quoted_as_it_reads(
    changes: dict[str, float],
) -> None:
    well = Conditions(50.0, 95.0, False, 80.0, False, 0.0, 0.0)
    trouble = find(msgspec.structs.replace(well, **changes), 0.04, Comfort(), resting=False)
    assert trouble is not None
    assert is_quoted(trouble.reason)


def test_the_reason_for_which_a_job_waits_is_quoted_as_it_reads() -> None:
    def device(name: str, role: typing.Literal["lora", "infer"]) -> DeviceView:
        plan = RungPlan(
            role=role, rung="r", rank=4, batch=1, seq_len=8, predicted_peak_bytes=1, fits=True
        )
        return DeviceView(id=name, plan=plan, codecs=("raw",), memory_limit_bytes=2)

    job = JobView(
        job="a", rounds=1, cohort_min=3, cohort_max=5, steps=1, rank=4, codecs={"raw": 32.0},
        codec="raw", deadline_s=60.0, seed=1, adapter_bytes=1, lora_parameters_per_rank=1,
        prompt_parameters=0,
    )  # fmt: skip
    fleet = [device("a", "lora"), device("b", "infer"), device("c", "infer")]
    waiting = schedule(job, fleet, {}, round_=1).waiting_reason
    assert waiting is not None
    assert is_quoted(waiting)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_error_of_a_taken_http_port_is_quoted_as_it_reads(taken_port: int) -> None:
    server = HttpServer(None, "127.0.0.1", taken_port)
    with pytest.raises(HubError) as raised:
        server.start()
    assert is_quoted(str(raised.value))


def test_the_error_of_a_taken_broker_port_is_quoted_as_it_reads(
    taken_port: int, tmp_path: Path
) -> None:
    with pytest.raises(BrokerError) as raised:
        start_broker(tmp_path, port=taken_port)
    assert is_quoted(str(raised.value))


@pytest.mark.parametrize(
    "http", ['listen: "10.0.0.5:8080"', 'listen: "0.0.0.0:8080"'], ids=["another", "wildcard"]
)
def test_the_error_of_listening_for_others_is_quoted_as_it_reads(http: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_bindings(parse_yaml(f"http: {{{http}}}", HubFile, "hub.yaml"))
    assert is_quoted(str(raised.value))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_error_of_an_absent_hub_is_quoted_as_it_reads() -> None:
    with HubClient(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(HubError) as raised:
        client.jobs()
    assert is_quoted(str(raised.value))


class Heard(logging.Handler):
    """Keeps what is logged, and says when something was."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.something = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.something.set()


def test_the_warning_of_an_absent_broker_is_quoted_as_it_reads() -> None:
    heard = Heard()
    logging.getLogger("wire.link").addHandler(heard)
    link = Link(f"mqtt://127.0.0.1:{free_port()}", "nobody", lambda _: None)
    link.start()
    try:
        assert heard.something.wait(10)
    finally:
        link.stop()
        logging.getLogger("wire.link").removeHandler(heard)
    assert is_quoted(heard.lines[0])


def nothing(*_: object) -> None:
    """Take any call."""


class Sent:
    """A link that keeps what is published."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def publish(self, topic: str, payload: bytes, qos: int) -> bool:
        self.payloads.append(payload)
        return True


def test_the_refusal_of_a_second_agent_is_quoted_as_it_reads() -> None:
    sent = Sent()
    reception = Reception(
        link=typing.cast("Link", sent),
        topics=Topics("f"),
        epoch="e",
        sessions=Sessions(),
        store=typing.cast("Any", None),
        broadcast=typing.cast("Any", None),
        allowed_bytes=nothing,
        arrived=nothing,
        gone=nothing,
        quiet=QuietLog(logging.getLogger("test")),
    )
    for session in ("first", "second", "first"):
        greeting = Hello(id="1", session=session, agent_version="0.1.0", wire_version=1)
        reception.on_hello("ward", greeting, 0.0)
    refused = [p for p in sent.payloads if b'"refused"' in p]
    assert is_quoted(msgspec.json.decode(refused[0], type=Refused).reason)
