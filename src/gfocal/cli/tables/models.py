"""Published weights for people: a table of many, everything about one, what is on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.table import Table

from gfocal.catalogue.addresses import addresses, file_name
from gfocal.catalogue.describe import (
    describe_by_hand,
    describe_figure,
    describe_licence,
    describe_size,
    describe_unreadable,
)
from gfocal.catalogue.entries import Published
from gfocal.catalogue.home import Cached, model_folder, read_record
from gfocal.cli.console import PlainConsole
from gfocal.utils.records import to_json
from gfocal.utils.text import program

_WIDE = 92  # columns of a terminal
_STATES = {
    "tried": "imported from a copy and measured",
    "reads": "readable by its published names, shapes and configuration; not tried",
    "needs": "not readable yet",
    "no": "refused",
}


def print_models(entries: Sequence[Published], *, hidden: int) -> None:
    """One line each; ``hidden`` is how many more there are that gfocal cannot read."""
    console = PlainConsole()
    table, wide = Table(box=None, pad_edge=False), console.width >= _WIDE
    for column in ("name", "AP", "detector, backbone", *(("input",) if wide else ()), "state"):
        table.add_column(column, justify="right" if column == "AP" else "left", no_wrap=column == "name")
    for entry in entries:
        own = (entry.name, _figure(entry), f"{entry.detector}, {entry.backbone}")
        table.add_row(*own, *((entry.input,) if wide else ()), _state(entry))
    if entries:
        console.print(table)
    for line in _legend(entries):
        console.print(line, soft_wrap=True)
    if hidden:
        console.print(f"{hidden:,} more that gfocal cannot read: --all")
    example = next((entry.name for entry in entries if entry.is_readable), "NAME")
    console.print(f"more: {program()} models {example}; use: {program()} predict {example} PICTURES", soft_wrap=True)


def _state(entry: Published) -> str:
    state = "here" if read_record(entry.name) is not None else entry.state
    return f"{state}, NC" if entry.source.noncommercial else state


def _legend(entries: Sequence[Published]) -> list[str]:
    """What the columns mean, of what is in them."""
    lines = ["AP: COCO val2017, as published; VOC 2007 where the name ends so; with * COCO test-dev"]
    shown = {entry.state for entry in entries}
    lines += [f"{state}: {words}" for state, words in _STATES.items() if state in shown]
    closed, free = ({e.source.licence for e in entries if e.source.noncommercial is nc} for nc in (True, False))
    lines += [f"NC: the licence forbids commercial use: {', '.join(sorted(closed))}"] if closed else []
    return [*lines, *([f"licence{' of the others' if closed else ''}: {', '.join(sorted(free))}"] if free else [])]


def _figure(entry: Published) -> str:
    if entry.ap is not None:
        return f"{entry.ap:.1f}"
    return "" if entry.test_dev is None else f"{entry.test_dev:.1f}*"


def entry_json(entry: Published) -> dict[str, object]:
    """All that is known of an entry, whether it is here, and what would be asked for its file."""
    own = {field.name: to_json(getattr(entry, field.name)) for field in fields(entry)}
    record = read_record(entry.name)
    return {
        **own,
        "readable": entry.is_readable,
        "file": file_name(entry),
        "asked": [address.url for address in addresses(entry)],
        "folder": None if record is None else str(model_folder(entry.name)),
        "record": None if record is None else to_json(record),
    }


def detail_lines(entry: Published) -> list[str]:
    """Everything that is known about a checkpoint, and what to type."""
    rows = {
        "name": entry.name,
        "also called": ", ".join(entry.aliases),
        "detector": f"{entry.detector}, {entry.backbone}",
        "about": entry.about,
        "trained on": entry.data + (f", {entry.epochs} epochs" if entry.epochs else ""),
        "AP": describe_figure(entry),
        "input": f"{entry.input} pixels" if entry.input else "",
        "published by": f"{entry.source.title}, {entry.source.page}",
        "licence": describe_licence(entry),
        "address": "; ".join(entry.addresses) + (f" (code {entry.code})" if entry.code else ""),
        "asked": "; ".join(each.url for each in addresses(entry) if each.url not in entry.addresses),
        "SHA-256": f"begins with {entry.sha256}" if entry.sha256 else "not published",
        "size": describe_size(entry),
        "gfocal": f"{entry.state} ({_STATES[entry.state]}): {entry.reason}",
    }
    lines = [f"{name + ':':<14}{text}" for name, text in rows.items() if text]
    return [*lines, *(_use(entry) if entry.is_readable else ["", describe_unreadable(entry)])]


def _use(entry: Published) -> list[str]:
    record, gfocal = read_record(entry.name), program()
    keys = () if record is None else [key for key in record.changed if key.startswith("model.")]
    settings = "".join(f" --set {shlex.quote(key)}" for key in keys)
    other = "" if record is not None or entry.row == "gfl_nano" else "  (--set ... as the download prints it)"
    fetch = f"fetch now:    {gfocal} models {entry.name} --download"
    return [
        "",
        f"use:          {gfocal} predict {entry.name} PICTURES",
        f"              {gfocal} eval {entry.name} --data DATA",
        f"              {gfocal} train {entry.row} --data DATA --init {entry.name}{settings}{other}",
        f"              gfocal.load({entry.name!r}) in Python",
        fetch if record is None else f"here:         {model_folder(entry.name)}",
        *([describe_by_hand(entry)] if record is None else []),
    ]


def print_downloaded(home: Path, found: Sequence[Cached]) -> None:
    """What is on this machine, and how much room it takes."""
    console = PlainConsole()
    for each in found:
        record = each.record
        about = (
            "on its way, or put there by hand" if record is None else f"{record.licence}, fetched {record.fetched[:10]}"
        )
        console.print(f"{each.name}  {each.bytes / 1e6:,.1f} MB  ({about})", soft_wrap=True)
    total = sum(each.bytes for each in found)
    console.print(f"{total / 1e6:,.1f} MB in {home} (GFOCAL_HOME)", soft_wrap=True)
    if found:
        console.print(f"{program()} models NAME --remove deletes one")
