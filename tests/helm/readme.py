"""Writes the table of values in the chart's README.md from values.yaml and the schema: python tests/helm/readme.py

test_documents.py holds that it was done.
"""

import json

import yaml

import support

README = support.CHART / "README.md"
BEGIN = "<!-- values: written by tests/helm/readme.py -->\n"
END = "<!-- end of values -->\n"
# Documented in docs/configuration.md, key by key.
OPAQUE = {"config"}


def load():
    """(values, schema)"""
    values = yaml.safe_load((support.CHART / "values.yaml").read_text())
    schema = json.loads((support.CHART / "values.schema.json").read_text())
    return values, schema


def rows(values, schema, path=()):
    """(dotted path, default, description) of every value."""
    for name, about in schema["properties"].items():
        here = (*path, name)
        if here == ("global",):
            continue
        default = (values or {}).get(name)
        if "properties" in about and about.get("additionalProperties") is False and name not in OPAQUE | {"affinity", "behavior", "resources"}:
            yield from rows(default, about, here)
        else:
            yield ".".join(here), default, about.get("description", "")


def table():
    """The table as Markdown."""
    lines = ["| Value | Default | Meaning |", "|---|---|---|"]
    for path, default, description in rows(*load()):
        shown = json.dumps(default, ensure_ascii=False)
        cell = description.replace("|", "\\|")
        lines.append(f"| `{path}` | `{shown}` | {cell} |")
    return "\n".join(lines) + "\n"


def with_table(text):
    """The README with the table as it has to be."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
