"""LogQL, as far as the chart uses it: parsed by Grafana's own grammar, checked against the catalogue, and evaluated.

The grammar runs in node (logql.cjs). What Loki refuses beyond the grammar, such as a grouping where there can be none,
is checked here, and anything that the chart does not use is refused, so that nothing goes unchecked.
"""

import dataclasses
import json
import pathlib
import re
import subprocess

import catalogue

SCRIPT = pathlib.Path(__file__).with_name("logql.cjs")
SECONDS = {"s": 1, "m": 60, "h": 3600}
# Structured metadata of a line, from the shippers.
BESIDE = {"namespace", "app", "release", "pod", "container", "level", "event", "trace_id"}
# Range aggregations over a number from the line, and those of them that Loki can group.
UNWRAPPED = {"sum_over_time", "max_over_time", "min_over_time", "avg_over_time", "last_over_time", "rate_counter"}
GROUPED = {"max_over_time", "min_over_time", "avg_over_time", "last_over_time"}
COUNTED = {"count_over_time", "absent_over_time"}


class Wrong(Exception):
    """The problem of an expression."""


@dataclasses.dataclass(frozen=True)
class Node:
    """One node of the tree that the grammar makes."""

    name: str
    text: str
    children: tuple

    def all(self, *names):
        """The nodes of these names below, in the order of the text."""
        for child in self.children:
            if child.name in names:
                yield child
            yield from child.all(*names)

    def child(self, *names):
        """The one direct child of these names, or None."""
        found = [child for child in self.children if child.name in names]
        return found[0] if found else None


def node(tree, source):
    """A Node from the JSON of logql.cjs. Its positions count UTF-16, and expressions are ASCII."""
    name, start, end, children = tree
    return Node(name, source[start:end], tuple(node(child, source) for child in children))


TREES = {}


def learn(expressions):
    """Parses many expressions at once, because each start of node takes long."""
    missing = sorted(set(expressions) - set(TREES))
    assert all(expression.isascii() for expression in missing)
    if missing:
        done = subprocess.run(["node", SCRIPT], input=json.dumps(missing), capture_output=True, text=True, timeout=60, check=True)
        TREES.update((source, node(tree, source)) for tree, source in zip(json.loads(done.stdout), missing))


def parse(expression):
    """The tree of one expression; refuses syntax errors."""
    learn([expression])
    wrong = next(TREES[expression].all("⚠"), None)
    if wrong is not None:
        raise Wrong(f"the grammar does not understand {wrong.text!r} in {expression}")
    return TREES[expression]


def string(text):
    """The content of a LogQL string."""
    return text[1:-1] if text.startswith("`") else json.loads(text)


# ---------------------------------------------------------------------------------------------------- one pipeline


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """The stages between a selector and a range."""

    selector: str
    line_filters: tuple
    extracted: tuple
    label_filters: tuple
    unwrapped: str | None
    range_s: float | None

    def events(self):
        """The events that pass the line filters, or None for any."""
        for operator, text in self.line_filters:
            if operator in ("|=", "|~") and text.startswith('"event":'):
                return alternatives(text)
        return None


def alternatives(text):
    """The values in `"key":"a"` or `"key":"(a|b)"`."""
    found = re.fullmatch(r'"[a-z]+":"(?:([A-Za-z_]+)|\(([A-Za-z_|]+)\))"', text)
    if found is None:
        raise Wrong(f"the line filter {text} is neither of an event nor of a level")
    return (found[1] or found[2]).split("|")


def pipeline(tree):
    """A LogRangeExpr or LogExpr, taken apart."""
    filters = [(each.child("Filter").text, string(each.child("String").text)) for each in tree.all("LineFilter")]
    extracted = []
    for each in tree.all("LabelExtractionExpression"):
        name, source = each.child("Identifier").text, each.child("String")
        extracted.append((name, string(source.text) if source else name))
    matchers = []
    for each in tree.all("LabelFilter"):
        matcher = each.child("Matcher")
        if matcher is None:
            raise Wrong(f"the label filter {each.text} is of a kind that the chart does not use")
        name, operator, value = matcher.children
        matchers.append((name.text, operator.text, string(value.text)))
    if any(True for _ in tree.all("LabelParser", "JsonExpression", "LineFormatExpr", "LabelFormatExpr", "DecolorizeExpr")):
        raise Wrong(f"a stage in {tree.text} is of a kind that the chart does not use")
    unwrapped = [each.child("Identifier").text for each in tree.all("UnwrapExpr") if each.child("Identifier")]
    length = next(tree.all("Duration"), None)
    return Pipeline(
        selector=next(tree.all("Selector")).text,
        line_filters=tuple(filters),
        extracted=tuple(extracted),
        label_filters=tuple(matchers),
        unwrapped=unwrapped[0] if unwrapped else None,
        range_s=seconds(length.text) if length else None,
    )


def seconds(text):
    """A duration such as 5m."""
    return float(text[:-1]) * SECONDS[text[-1]]


# --------------------------------------------------------------------------------------------- against the catalogue


def check(expression):
    """Refuses an expression that Loki would refuse, or that names what no line has. Returns the labels it yields."""
    tree = parse(expression)
    for each in tree.all("LogRangeExpr", "LogExpr"):
        check_names(pipeline(each))
    for each in tree.all("RangeAggregationExpr"):
        check_range(each)
    for each in tree.all("BinOpExpr"):
        for side in each.children[0], each.children[-1]:
            if bare(side).name == "BinOpExpr" and not side.text.strip().startswith("("):
                raise Wrong(f"{each.text} needs brackets: this grammar knows no precedence")
    return yielded(tree)


def check_names(of):
    """Events, levels and fields must be in the catalogue, and an unwrapped field must be a number."""
    for _, text in of.line_filters:
        known = catalogue.LEVELS if text.startswith('"level":') else catalogue.EVENTS
        for name in alternatives(text):
            if name not in known:
                raise Wrong(f"{name} is not in the catalogue")
    if not of.line_filters:
        raise Wrong(f"{of.selector} without a line filter reads everything")
    events = of.events()
    kinds = [catalogue.COMMON] if events is None else [catalogue.fields_of(event) for event in events]
    for name, source in of.extracted:
        if name != source:
            raise Wrong(f"{source} is called {name}")
        if not all(name in fields for fields in kinds):
            raise Wrong(f"{name} is not in every line of {events}")
    extracted = {name for name, _ in of.extracted}
    if of.unwrapped is not None:
        if of.unwrapped not in extracted:
            raise Wrong(f"{of.unwrapped} is unwrapped, but not taken out of the line")
        if not all(fields[of.unwrapped] in catalogue.NUMERIC for fields in kinds):
            raise Wrong(f"{of.unwrapped} is no number")
        if ("__error__", "=", "") not in of.label_filters:
            raise Wrong(f"a line that cannot be read would break {of.unwrapped}: | __error__=\"\" is missing")
    for name, _, _ in of.label_filters:
        if name not in extracted | BESIDE | {"__error__"}:
            raise Wrong(f"{name} is filtered, but there is no such label")


def check_range(tree):
    """Checks what Loki refuses although the grammar accepts it."""
    operation = tree.child("RangeOp").text
    of = pipeline(tree.child("LogRangeExpr"))
    if operation not in UNWRAPPED | COUNTED:
        raise Wrong(f"{operation} is not used by the chart")
    if (operation in UNWRAPPED) != (of.unwrapped is not None):
        raise Wrong(f"{operation} with or without unwrap, the wrong way round")
    if tree.child("Grouping") and operation not in GROUPED:
        raise Wrong(f"{operation} cannot be grouped")


def bare(tree):
    """Without the nodes that only wrap another one."""
    while tree.name in ("LogQL", "Expr", "MetricExpr") and len(tree.children) == 1:
        tree = tree.children[0]
    return tree


def grouping(tree):
    """The labels of `by (...)`; None where there is no grouping."""
    found = tree.child("Grouping")
    if found is None:
        return None
    if found.child("By") is None:
        raise Wrong(f"{found.text}: the chart groups with `by` alone")
    return {each.text for each in found.all("Identifier")}


def yielded(tree):
    """The labels of a metric expression's series."""
    tree = bare(tree)
    if tree.name == "LogExpr":
        return BESIDE
    if tree.name == "LiteralExpr":
        return set()
    if tree.name == "BinOpExpr":
        return yielded(tree.children[0])
    if tree.name == "RangeAggregationExpr":
        of = pipeline(tree.child("LogRangeExpr"))
        inner = BESIDE | {name for name, _ in of.extracted} - {of.unwrapped}
        if tree.child("RangeOp").text == "absent_over_time":
            return set()
    elif tree.name == "VectorAggregationExpr":
        inner = yielded(tree.child("MetricExpr"))
    else:
        raise Wrong(f"{tree.name} is not used by the chart")
    labels = grouping(tree)
    if labels is None:
        return set() if tree.name == "VectorAggregationExpr" else inner
    if not labels <= inner:
        raise Wrong(f"grouped by {labels - inner}, which there is not")
    return labels


# ------------------------------------------------------------------------------------------------------- evaluation


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line in Loki."""

    at_s: float
    labels: tuple
    text: str


LINE_FILTERS = {
    "|=": lambda text, line: text in line,
    "!=": lambda text, line: text not in line,
    "|~": lambda text, line: re.search(text, line) is not None,
    "!~": lambda text, line: re.search(text, line) is None,
}
LABEL_FILTERS = {
    "=": lambda wanted, value: value == wanted,
    "!=": lambda wanted, value: value != wanted,
    "=~": lambda wanted, value: re.fullmatch(wanted, value) is not None,
    "!~": lambda wanted, value: re.fullmatch(wanted, value) is None,
}
COMPARISONS = {">": lambda a, b: a > b, "<": lambda a, b: a < b}
ARITHMETIC = {"/": lambda a, b: a / b if b else float("nan"), "*": lambda a, b: a * b}


def evaluate(expression, entries, now_s):
    """The value of a metric expression at a time: {labels: number}, or a number. The selector is assumed to match."""
    return value_of(bare(parse(expression)), entries, now_s)


def value_of(tree, entries, now_s):
    if tree.name == "LiteralExpr":
        return float(tree.text)
    if tree.name == "BinOpExpr":
        left, right = (value_of(bare(side), entries, now_s) for side in (tree.children[0], tree.children[-1]))
        return combine(tree.children[1].text, left, right)
    if tree.name == "VectorAggregationExpr":
        inner = value_of(bare(tree.child("MetricExpr")), entries, now_s)
        return aggregate(tree.child("VectorOp").text, grouping(tree) or set(), inner.items())
    if tree.name == "RangeAggregationExpr":
        return over_time(tree, entries, now_s)
    raise Wrong(f"{tree.name} is not used by the chart")


def combine(operator, left, right):
    if operator in COMPARISONS:
        return {labels: value for labels, value in left.items() if COMPARISONS[operator](value, right)}
    if isinstance(right, dict):
        return {labels: ARITHMETIC[operator](value, right[labels]) for labels, value in left.items() if labels in right}
    return {labels: ARITHMETIC[operator](value, right) for labels, value in left.items()}


def aggregate(operation, labels, series):
    groups = {}
    for own, value in series:
        kept = frozenset((name, each) for name, each in own if name in labels)
        groups.setdefault(kept, []).append(value)
    return {kept: {"sum": sum, "max": max, "count": len}[operation](values) for kept, values in groups.items()}


def over_time(tree, entries, now_s):
    operation, of = tree.child("RangeOp").text, pipeline(tree.child("LogRangeExpr"))
    labels = grouping(tree)
    series = {}
    for entry in sorted(entries, key=lambda each: each.at_s):
        if now_s - of.range_s < entry.at_s <= now_s and (sample := sample_of(of, entry)) is not None:
            own, value = sample
            kept = frozenset(own.items()) if labels is None else frozenset((k, v) for k, v in own.items() if k in labels)
            series.setdefault(kept, []).append(value)
    if operation == "absent_over_time":
        return {} if series else {frozenset(): 1.0}
    return {own: RANGES[operation](values, of.range_s) for own, values in series.items()}


def rise(values):
    """The increase of a counter, across resets."""
    return sum(after - before if after >= before else after for before, after in zip(values, values[1:]))


RANGES = {
    "count_over_time": lambda values, _: float(len(values)),
    "sum_over_time": lambda values, _: sum(values),
    "max_over_time": lambda values, _: max(values),
    "min_over_time": lambda values, _: min(values),
    "avg_over_time": lambda values, _: sum(values) / len(values),
    "last_over_time": lambda values, _: values[-1],
    "rate_counter": lambda values, range_s: rise(values) / range_s,
}


def sample_of(of, entry):
    """(labels, number) of a line that passes the pipeline, or None."""
    if not all(LINE_FILTERS[operator](text, entry.text) for operator, text in of.line_filters):
        return None
    labels, value, error = dict(entry.labels), 1.0, ""
    if of.extracted:
        try:
            found = json.loads(entry.text)
        except ValueError:
            found, error = {}, "JSONParserErr"
        for name, source in of.extracted:
            each = found.get(source, "")
            labels[name] = each if isinstance(each, str) else json.dumps(each)
    if of.unwrapped is not None:
        text = labels.pop(of.unwrapped, "")
        try:
            value = float(text)
        except ValueError:
            error = error or "SampleExtractionErr"
    for name, operator, wanted in of.label_filters:
        if not LABEL_FILTERS[operator](wanted, error if name == "__error__" else labels.get(name, "")):
            return None
    return {name: each for name, each in labels.items() if each}, value
