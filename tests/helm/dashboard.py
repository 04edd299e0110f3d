"""Writes the dashboard, helm/steward/files/dashboard.json: python tests/helm/dashboard.py

A panel is a line here and thirty in Grafana's JSON. test_monitoring.py checks that the file is up to date. The chart
replaces each name between two @.
"""

import json

import support

FILE = support.CHART / "files" / "dashboard.json"
DATASOURCE = {"type": "loki", "uid": "${datasource}"}
WIDTH = 24
ERRORS = '|= `"level":"ERROR"`'
WARNINGS = '|~ `"level":"(WARN|ERROR)"`'


def found(filter_):
    """The lines that pass a filter. Pods are not in the index, so they are filtered last."""
    return f'@selector@ {filter_} | pod=~"$pod"'


def lines(*events):
    """The lines of some events."""
    return found(f'|= `"event":"{events[0]}"`' if len(events) == 1 else f'|~ `"event":"({"|".join(events)})"`')


def stats(field):
    """The samples of a field of `stats`."""
    return f'{lines("stats")} | json {field}="{field}" | unwrap {field} | __error__=""'


def target(expression, legend, kind="range"):
    """One query of a panel."""
    query = {"datasource": DATASOURCE, "expr": expression, "legendFormat": legend, "queryType": kind}
    return query | ({"instant": True} if kind == "instant" else {})


def panel(kind, title, about, queries, unit="short", width=8, height=8, **options):
    """A panel without its position."""
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}
            if kind == "timeseries"
            else {"unit": unit, **options.pop("defaults", {})},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        if kind == "timeseries"
        else options.pop("options", {}),
        "targets": [query | {"refId": chr(ord("A") + number)} for number, query in enumerate(queries)],
        "gridPos": {"w": width, "h": height},
    }


def series(title, about, queries, **more):
    return panel("timeseries", title, about, [target(*query) for query in queries], **more)


def number(title, about, expression, unit="short", bad_above=None):
    steps = [{"color": "green", "value": None}]
    if bad_above is not None:
        steps.append({"color": "red", "value": bad_above})
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    defaults = {"thresholds": {"mode": "absolute", "steps": steps}}
    queries = [target(expression, "", "instant")]
    return panel("stat", title, about, queries, unit=unit, width=4, height=4, options=options, defaults=defaults)


def log(title, about, expression):
    options = {"showTime": True, "wrapLogMessage": True, "prettifyLogMessage": False, "sortOrder": "Descending"}
    return panel("logs", title, about, [target(expression, "")], width=24, height=10, options=options)


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1}}


PANELS = [
    number("Processes", "Processes that logged `stats` in the last 2 minutes.", f"count(sum by (pod) (count_over_time({lines('stats')} [2m])))"),
    number("Events per second", "Read, all processes together.", f"sum(rate_counter({stats('events_total')} [2m]))"),
    number("Lag", "Events in the input that are not committed.", f"sum(last_over_time({stats('lag_total')} [2m]) by (pod))"),
    number("Oldest event", "Age of the oldest uncommitted event.", f"max(max_over_time({stats('oldest_age_ms')} [2m]))", "ms", 60_000),
    number("Rejected, 1 hour", "Events that went to the DLQ topic.", f"sum(rate_counter({stats('rejected_total')} [1h])) * 3600"),
    number("Errors, 1 hour", "Lines of level ERROR: they need action.", f'sum(count_over_time({found(ERRORS)} [1h]))', "short", 1),
    row("Work"),
    series("Events", "Read, per second.", [(f"sum by (pod) (rate_counter({stats('events_total')} [$__auto]))", "{{pod}}")], unit="eps"),
    series(
        "Held back",
        "Events of the input behind an open transaction of a producer.",
        [(f"max_over_time({stats('behind_open_transaction_total')} [$__auto]) by (pod)", "{{pod}}")],
    ),
    series("Lag", "Events in the input that are not committed.", [(f"max_over_time({stats('lag_total')} [$__auto]) by (pod)", "{{pod}}")]),
    series(
        "Age and latency",
        "Oldest: age of the oldest uncommitted event. Latency: from an event's timestamp to its commit.",
        [
            (f"max(max_over_time({stats('oldest_age_ms')} [$__auto]))", "oldest"),
            (f"max(max_over_time({stats('latency_p99_ms')} [$__auto]))", "latency p99"),
            (f"max(max_over_time({stats('latency_p50_ms')} [$__auto]))", "latency p50"),
        ],
        unit="ms",
    ),
    series(
        "DLQ records, by reason",
        "Rejected events: the first of each reason, and the counted repeats.",
        [
            (f"sum by (reason) (count_over_time({lines('event_rejected')} | json reason=\"reason\" [$__auto]))", "{{reason}}, written"),
            (
                f"sum by (reason) (sum_over_time({lines('events_rejected')} | json reason=\"reason\", count=\"count\""
                ' | unwrap count | __error__="" [$__auto]))',
                "{{reason}}, counted",
            ),
        ],
    ),
    series("Skipped", "Events that the state contained already, per second.", [(f"sum by (pod) (rate_counter({stats('skipped_total')} [$__auto]))", "{{pod}}")], unit="eps"),
    series("Intake", "Bytes of keys, values and headers read per second.", [(f"avg_over_time({stats('bytes_per_s')} [$__auto]) by (pod)", "{{pod}}")], unit="Bps"),
    row("Transactions"),
    series(
        "Duration",
        "Median and 99th percentile, the slowest process.",
        [
            (f"max(max_over_time({stats('transaction_p99_ms')} [$__auto]))", "p99"),
            (f"max(max_over_time({stats('transaction_p50_ms')} [$__auto]))", "p50"),
        ],
        unit="ms",
    ),
    series("Number", "Committed, all processes together.", [(f"sum(sum_over_time({stats('transactions')} [$__auto]))", "committed")]),
    series(
        "Problems",
        "The content of aborted transactions is sent again; after one in doubt, a producer reset decides whether it took effect.",
        [
            (
                "sum by (event) (count_over_time("
                + lines("transaction_aborted", "transaction_in_doubt", "transaction_refused", "producer_reset", "producer_reset_failed", "producer_fenced")
                + ' | json event="event" [$__auto]))',
                "{{event}}",
            )
        ],
    ),
    row("Group and recovery"),
    series(
        "Rebalances",
        "Partitions that were assigned, revoked or lost.",
        [
            (
                "sum by (event) (sum_over_time("
                + lines("partitions_assigned", "partitions_revoked", "partitions_lost")
                + ' | json event="event", count="count" | unwrap count | __error__="" [$__auto]))',
                "{{event}}",
            )
        ],
    ),
    series(
        "Partitions",
        "That serve, all processes together; and that the input has.",
        [
            (f"sum(last_over_time({stats('partitions_serving')} [$__auto]) by (pod))", "serve"),
            (f"max(last_over_time({stats('partitions_total')} [$__auto]) by (pod))", "of the input"),
        ],
    ),
    series(
        "Fetch age",
        "Longest time since the broker of a served partition sent anything.",
        [(f"max_over_time({stats('fetch_age_max_ms')} [$__auto]) by (pod)", "{{pod}}")],
        unit="ms",
    ),
    series(
        "Running recoveries",
        "Progress of the phase.",
        [
            (
                f"max by (pod, partition, phase) (max_over_time({lines('recovery_progress')}"
                ' | json partition="partition", phase="phase", percent="percent" | unwrap percent | __error__="" [$__auto]))',
                "{{pod}} {{partition}} {{phase}}",
            )
        ],
        unit="percent",
    ),
    series(
        "Duration of recoveries",
        "For partitions that have recovered.",
        [
            (
                f"max by (pod) (max_over_time({lines('recovery_finished')}"
                ' | json took_ms="took_ms" | unwrap took_ms | __error__="" [$__auto]))',
                "{{pod}}",
            )
        ],
        unit="ms",
    ),
    row("Memory"),
    series("Resident", "Memory of the process.", [(f"max_over_time({stats('memory_rss_bytes')} [$__auto]) by (pod)", "{{pod}}")], unit="bytes"),
    series(
        "State and bytes in flight",
        "Snapshots in memory; uncommitted records, and their limit.",
        [
            (f"sum(last_over_time({stats('state_bytes')} [$__auto]) by (pod))", "state"),
            (f"sum(max_over_time({stats('in_flight_bytes')} [$__auto]) by (pod))", "in flight"),
            (f"sum(last_over_time({stats('in_flight_limit_bytes')} [$__auto]) by (pod))", "in flight, limit"),
        ],
        unit="bytes",
    ),
    series(
        "Entities",
        "Actors, and passivated snapshots.",
        [
            (f"sum(last_over_time({stats('entities_active')} [$__auto]) by (pod))", "active"),
            (f"sum(last_over_time({stats('entities_passivated')} [$__auto]) by (pod))", "passivated"),
        ],
    ),
    row("Life cycle"),
    series(
        "Starts and ends",
        "If there is no end before a start, the process was killed.",
        [
            (
                "sum by (event) (count_over_time("
                + lines("process_starting", "process_stopped", "process_failed", "progress_stalled")
                + ' | json event="event" [$__auto]))',
                "{{event}}",
            )
        ],
        width=12,
    ),
    series(
        "Warnings and errors",
        "Lines by event.",
        [(f'sum by (event) (count_over_time({found(WARNINGS)} | json event="event" [$__auto]))', "{{event}}")],
        width=12,
    ),
    log("Warnings and errors", "Lines of level WARN and ERROR.", found(WARNINGS)),
    log("All lines except stats", "The life cycle of the processes.", found('!= `"event":"stats"`')),
]


def placed(panels):
    """The panels in rows from left to right, with their ids."""
    x = y = height = 0
    for number_, each in enumerate(panels, start=1):
        place = each["gridPos"]
        if x + place["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        yield {"id": number_, **each, "gridPos": {"x": x, "y": y, **place}}
        x, height = x + place["w"], max(height, place["h"])


def variable(kind, name, label, **more):
    return {"type": kind, "name": name, "label": label, "hide": 0, "skipUrlSync": False, **more}


def dashboard():
    """The dashboard as Grafana takes it."""
    return {
        "uid": "@uid@",
        "title": "@title@",
        "description": "steward, from its log alone. docs/log-events.md explains each line; docs/runbook.md says what to do.",
        "tags": ["steward", "kafka"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [],
        "annotations": {"list": []},
        "templating": {
            "list": [
                variable("datasource", "datasource", "Loki", query="loki", current={}, regex="", multi=False, includeAll=False),
                variable("textbox", "pod", "Pods (pattern)", query=".*", current={"text": ".*", "value": ".*"}, options=[]),
            ]
        },
        "panels": list(placed(PANELS)),
    }


def text():
    """The file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
