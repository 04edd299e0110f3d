"""The catalogue of docs/log-events.md: every event with its level, and the fields with their types."""

import json
import re

import support

PAGE = (support.ROOT / "docs" / "log-events.md").read_text()
LEVELS = ("ERROR", "WARN", "INFO", "DEBUG", "TRACE")
# Fields of every line.
COMMON = {"timestamp": "string", "level": "string", "event": "string", "message": "string", "target": "string"}
NUMERIC = {"integer", "number"}
SPECIMENS = {"string": "text", "integer": 7, "number": 7.5, "true or false": True, "boolean": True}


def read(page):
    """name -> (level, {field: (type, whether it is always there)})"""
    events = {}
    for part in re.split(r"^### ", page, flags=re.M)[1:]:
        head = re.match(r"`([a-z_]+)` ([A-Z]+)\n", part)
        if head is None or head[2] not in LEVELS:
            continue
        rows = re.findall(r"^\| `([a-z0-9_]+)` \| ([a-z ]+?)(, or absent)? \| .* \|$", part, re.M)
        events[head[1]] = (head[2], {name: (kind, not absent) for name, kind, absent in rows})
    return events


EVENTS = read(PAGE)


def fields_of(event):
    """field -> type, those of every line included."""
    return COMMON | {name: kind for name, (kind, _) in EVENTS[event][1].items()}


def line(event, at="2026-01-31T12:00:00.000Z", **given):
    """A line as steward writes it. Fields that are not given have any value of their type."""
    level, fields = EVENTS[event]
    unknown = set(given) - set(fields)
    assert not unknown, f"{event} has no {unknown}"
    values = {name: given.get(name, SPECIMENS[kind]) for name, (kind, always) in fields.items() if always or name in given}
    head = {"timestamp": at, "level": level, "event": event, "message": "a sentence", "target": "steward::somewhere"}
    return json.dumps(head | values, separators=(",", ":"))


def mistakes(text):
    """The differences between a real line and the page."""
    found = json.loads(text)
    event = found["event"]
    if event == "library_log":
        return []
    if event not in EVENTS:
        return [f"{event} is not in the catalogue"]
    level, fields = EVENTS[event]
    wrong = [] if found["level"] == level else [f"{event} is {found['level']}"]
    wrong += [f"{event} lacks {name}" for name, (_, always) in fields.items() if always and name not in found]
    wrong += [f"{event} has {name}" for name in found if name not in COMMON | fields]
    for name, (kind, _) in fields.items():
        if name in found and kind in NUMERIC and not isinstance(found[name], (int, float)):
            wrong.append(f"{event}.{name} is no number")
    return wrong
