"""The report of a demo run: one HTML file that asks nothing of the network and runs no script."""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hub.demo import charts, numbers
from hub.demo.final_table import final_table
from hub.demo.markup import Content, Html, el, join
from hub.demo.summary import DeviceSummary, RoundSummary, Summary, fall, parse
from hub.simulation.partition_chart import partition_chart

__all__ = ["final_table", "write_report"]

#: So many events at the end of the log are shown; all of them are in ``events.jsonl``.
MAX_EVENTS = 300


def write_report(
    folder: Path, summary: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = ()
) -> Path:
    """Write ``report.html`` into the folder of a run.

    Args:
        folder: an existing folder.
        summary: the fields of ``summary.json`` (`hub.demo.summary.Summary`).
        events: the lines of ``events.jsonl``, in order; any JSON objects.

    Returns:
        the path of the report.

    Raises:
        msgspec.ValidationError: the summary lacks a field or has one of a wrong type.
    """
    path = folder / "report.html"
    path.write_text(page(parse(summary), list(events)), encoding="utf-8")
    return path


def page(run: Summary, events: Sequence[Mapping[str, Any]]) -> str:
    """Return the whole document."""
    style = resources.files("hub.demo").joinpath("report.css").read_text(encoding="utf-8")
    name = str(run.job.get("job", "demo"))
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"Lorikeet: {name}"),
        el("style", Html(style)),
    )
    rest = join(_rounds(run), _settings(run), _log(events), _footer(run))
    body = el("main", _headline(run, name), _tiles(run), _charts(run), _roles(run), rest)
    return "<!doctype html>\n" + el("html", head, el("body", body), lang="en") + "\n"


def _headline(run: Summary, name: str) -> Html:
    roles = [
        "forward-only" if device.role == "infer" and device.steps else device.role
        for device in run.devices
    ]
    told = ", ".join(
        f"{roles.count(role)} {words}"
        for role, words in (
            ("lora", "trained LoRA factors"),
            ("prompt", "trained a soft prompt"),
            ("forward-only", "trained cores without backprop"),
            ("infer", "only evaluated"),
        )
        if role in roles
    )
    lead = (
        f"{len(run.devices)} devices worked on one adapter for {len(run.heldout_loss)} of "
        f"{run.rounds} rounds and kept their text to themselves: {told or 'none took a role'}. "
        "Each one took its role from its memory limit alone."
    )
    return el("header", el("h1", f"Lorikeet: {name}"), el("p", lead, class_="lead"))


def _tiles(run: Summary) -> Html:
    last = run.heldout_loss[-1] if run.heldout_loss else None
    change = fall(run.base_loss, last)
    up = sum(device.bytes_up for device in run.devices)
    down = sum(device.bytes_down for device in run.devices)
    without = fall(last, run.loss_without_prompt)
    prompt = f"; without the soft prompt {numbers.percent(without)}" if without is not None else ""
    over = f" over {run.broker}" if run.broker else ""
    colour = "big" if change is None else "big good" if change < 0 else "big bad"
    return el(
        "dl",
        _tile(
            "Held-out loss",
            numbers.percent(change),
            f"{numbers.loss(run.base_loss)} → {numbers.loss(last)}{prompt}",
            colour,
        ),
        _tile(
            "Time",
            numbers.duration(run.seconds),
            f"{len(run.heldout_loss)} rounds{over}, seed {run.seed}",
        ),
        _tile(
            "Sent by all devices",
            numbers.transfer(up),
            f"received {numbers.transfer(down)}",
        ),
        _tile(
            "Hub's peak memory",
            numbers.memory(run.hub.peak_bytes),
            f"everything together {numbers.memory(run.total_peak_bytes)}",
        ),
        class_="tiles",
    )


def _tile(name: str, value: str, more: str, class_: str = "big") -> Html:
    values = (el("dd", value, class_=class_), el("dd", more, class_="small"))
    return el("div", el("dt", name), *values, class_="tile")


def _charts(run: Summary) -> Html:
    return el(
        "div",
        _figure(
            "Held-out loss, round by round",
            "Mean over all held-out text, weighted by tokens; lower is better. "
            "The axis does not start at zero.",
            charts.loss_by_round(run),
        ),
        _figure(
            "Loss on each device's own text",
            "With the base alone and with the final adapter, on text that no device trained on.",
            charts.loss_by_device(run.devices),
            _legend(("hollow", "base"), ("full", "final adapter")),
        ),
        _figure(
            "Bytes up and down",
            "Over the whole run, as each agent counted them.",
            charts.bytes_by_device(run.devices),
            _legend(("up", "sent"), ("down", "received")),
        ),
        _figure(
            "Memory: limit and measured peak",
            "Roles follow from limits; predictions are checked.",
            charts.memory_by_device(run.devices),
            _legend(
                ("lora", "peak: LoRA"),
                ("prompt", "prompt"),
                ("infer", "infer"),
                ("predicted", "predicted"),
                ("limit", "limit"),
            ),
        ),
        _holdings(run),
        class_="charts",
    )


def _holdings(run: Summary) -> Html | None:
    """Return the picture of who holds what; None for a run that doesn't tell."""
    devices = [device for device in run.devices if device.passages]
    if not devices:
        return None
    names = sorted({package for device in devices for package in device.passages})
    counts = np.array([[device.passages.get(name, 0) for name in names] for device in devices])
    return _figure(
        "Who holds what",
        "Passages of private text, by device and package; a disc's area is their number.",
        partition_chart(counts, [device.id for device in devices], names),
    )


def _figure(title: str, told: str, picture: Html, legend: Html | None = None) -> Html:
    caption = el("figcaption", el("h2", title), el("p", told))
    return el("figure", caption, legend, picture, class_="card")


def _legend(*entries: tuple[str, str]) -> Html:
    items = [el("li", el("i", class_=kind, aria_hidden="true"), words) for kind, words in entries]
    return el("ul", *items, class_="legend")


def _roles(run: Summary) -> Html:
    rows = [
        (
            (device.id, "", "head"),
            (", ".join(device.packages) or "–", "Text", ""),
            (_chip(device.role, charts.role_words(device.role, device.rank)), "Role", ""),
            (device.rung or "–", "Rung", ""),
            (_batch(device), "Batch", "num"),
            (str(device.steps) if device.steps else "–", "Steps", "num"),
            (device.reason or "–", "Why", "why"),
        )
        for device in run.devices
    ]
    heads = ("Device", "Private text", "Role", "Rung", "Batch × length", "Steps", "Why")
    return _section(
        "Who had which role, and why",
        "Private text: the sources of these standard-library packages. Steps: in all rounds.",
        _table(heads, rows),
    )


def _batch(device: DeviceSummary) -> str:
    return f"{device.batch} × {device.seq_len}" if device.batch and device.seq_len else "–"


def _rounds(run: Summary) -> Html | None:
    if not run.rounds_detail:
        return None
    rows = []
    before = run.base_loss
    for record in run.rounds_detail:
        ended = "" if record.phase in ("", "published") else f" ({record.phase})"
        rows.append(
            (
                (f"{record.round}{ended}", "", "head"),
                (numbers.duration(record.seconds), "Time", "num"),
                (str(record.accepted), "Updates", "num"),
                (numbers.loss(record.heldout_loss), "Loss", "num"),
                (numbers.percent(fall(before, record.heldout_loss)), "Change", "num"),
                (numbers.loss(record.worst_tenth), "Worst tenth", "num"),
                (numbers.loss(record.spread), "Spread", "num"),
            )
        )
        if record.phase != "rolled_back":
            before = record.heldout_loss or before
    heads = ("Round", "Time", "Updates", "Loss", "Change", "Worst tenth", "Spread")
    members = [_members(record) for record in run.rounds_detail if record.members]
    return _section(
        "Rounds",
        "Loss on held-out text after each round; its change is to the round before. Worst tenth: "
        "the mean over the tenth of devices with the highest loss. Spread: the standard deviation "
        "over devices.",
        _table(heads, rows, stacks=False),
        *members,
    )


def _members(record: RoundSummary) -> Html:
    rows = [
        (
            (member.device, "", "head"),
            (_chip(member.role, charts.role_words(member.role, member.rank)), "Role", ""),
            (str(member.steps) if member.steps else "–", "Steps", "num"),
            (member.codec or "–", "Codec", ""),
            (member.state or "–", "State", ""),
            (member.reason or "–", "Why", "why"),
        )
        for member in record.members
    ]
    heads = ("Device", "Role", "Steps", "Codec", "State", "Why")
    shown = el("summary", f"Round {record.round}: each device's task, and why")
    return el("details", shown, _table(heads, rows))


def _settings(run: Summary) -> Html:
    job = yaml.safe_dump(run.job, sort_keys=False, allow_unicode=True) if run.job else "–"
    command = run.command or f"lorikeet-hub demo --seed {run.seed}"
    results = [
        el("li", el("code", name), words)
        for name, words in (
            (run.adapter, ": the LoRA adapter, a folder for peft.PeftModel.from_pretrained"),
            (run.prompt, ": the soft prompt, a PEFT folder of its own"),
        )
        if name
    ]
    return _section(
        "The job",
        "The command that made this report, and the job's settings.",
        el("pre", el("code", command)),
        el("pre", el("code", job.rstrip()), tabindex=0),
        el("p", "Beside this file:") if results else None,
        el("ul", *results) if results else None,
    )


def _log(events: Sequence[Mapping[str, Any]]) -> Html | None:
    if not events:
        return None
    shown = events[-MAX_EVENTS:]
    words = f"the last {len(shown)} of " if len(shown) < len(events) else ""
    lines = "\n".join(json.dumps(event, ensure_ascii=False, default=str) for event in shown)
    return _section(
        "Event log",
        "From it, the rounds' outcome follows.",
        el(
            "details",
            el("summary", f"Show {words}{len(events)} events"),
            el("pre", el("code", lines), class_="log", tabindex=0),
        ),
    )


def _footer(run: Summary) -> Html:
    return el(
        "footer",
        f"Losses are in nats per token. Every number is in summary.json. Seed {run.seed}. "
        "Made by Lorikeet.",
    )


def _section(title: str, told: str | None, *content: Content) -> Html:
    lead = el("p", told) if told else None
    return el("section", el("h2", title), lead, *content, class_="card wide")


def _chip(role: str, words: str) -> Html:
    known = role if role in ("lora", "prompt", "infer") else "none"
    return el("span", words, class_=f"chip {known}")


#: What a cell holds, its label where the table is stacked on a phone, its class.
_Cell = tuple[Content, str, str]


def _table(heads: Sequence[str], rows: Sequence[Sequence[_Cell]], *, stacks: bool = True) -> Html:
    classes = [class_ for _, _, class_ in rows[0]] if rows else [""] * len(heads)
    header = [
        el("th", head, scope="col", class_="num" if class_ == "num" else None)
        for head, class_ in zip(heads, classes, strict=True)
    ]
    body = [el("tr", *(_cell(*cell) for cell in row)) for row in rows]
    kind = "stack" if stacks else "narrow"
    return el("table", el("thead", el("tr", *header)), el("tbody", *body), class_=kind)


def _cell(content: Content, label: str, class_: str) -> Html:
    if class_ == "head":
        return el("th", content, scope="row")
    inner = content if isinstance(content, Html) else el("span", content)
    return el("td", inner, class_=class_ or None, data_label=label)
