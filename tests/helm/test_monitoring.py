"""Rules, dashboard and shippers: they name only what the catalogue has, Grafana's own grammar parses every expression,
and each alert fires on the lines that it is for, and on no others."""

import datetime
import functools
import json
import os
import re
import subprocess

import pytest
import vrl_python
import yaml

import catalogue
import dashboard
import logql
import support

WATCHED = support.ROOT / "tests" / "helm" / "values" / "watched_by_default.yaml"
MONITORED = support.ROOT / "tests" / "helm" / "values" / "monitored.yaml"
RECORDED = sorted((support.ROOT / "tests" / "helm" / "lines").glob("*.jsonl"))
RUNBOOK = (support.ROOT / "docs" / "runbook.md").read_text()
PAGES = [support.ROOT / "docs" / name for name in ("runbook.md", "monitoring.md")]
INDEX = {"namespace", "app", "release"}
NOW = datetime.datetime(2026, 1, 31, 12, 30, tzinfo=datetime.UTC).timestamp()


@functools.lru_cache(maxsize=None)
def part(values_file, name):
    """The one file in a ConfigMap of the chart."""
    (found,) = [each for each in support.of_kind(support.rendered(values_file), "ConfigMap") if each["metadata"]["name"].endswith(name)]
    (text,) = found["data"].values()
    return text


def rules_of(values_file=WATCHED):
    return [rule for group in yaml.safe_load(part(values_file, "-loki-rules"))["groups"] for rule in group["rules"]]


def alerts_of(values_file=WATCHED):
    return {rule["alert"]: rule for rule in rules_of(values_file) if "alert" in rule}


def board(values_file=WATCHED):
    return json.loads(part(values_file, "-dashboard"))


def in_grafana(expression):
    """An expression of the dashboard as Grafana sends it."""
    return expression.replace("$__auto", "5m").replace("$pod", ".*")


ALERTS_IN_FILE = re.findall(r"- alert: (\w+)", (support.CHART / "files" / "loki-rules.yaml").read_text())
# With a memory limit, and nothing disabled.
ALL = support.ROOT / "tests" / "helm" / "values" / "rules.yaml"
ALERTS = alerts_of(ALL)
logql.learn(rule["expr"] for values_file in (ALL, MONITORED) for rule in rules_of(values_file))
logql.learn(in_grafana(target["expr"]) for each in (WATCHED, MONITORED) for panel in board(each)["panels"] for target in panel.get("targets", []))

# -------------------------------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize("values_file", [ALL, WATCHED, MONITORED], ids=lambda path: path.stem)
def test_the_rules_are_valid_for_a_ruler(values_file):
    found = yaml.safe_load(part(values_file, "-loki-rules"))
    assert set(found) == {"groups"}
    names = [group["name"] for group in found["groups"]]
    assert len(set(names)) == len(names)
    for group in found["groups"]:
        assert set(group) == {"name", "interval", "rules"}
        assert re.fullmatch(r"[0-9]+[smh]", group["interval"])
        for rule in group["rules"]:
            kind = "alert" if "alert" in rule else "record"
            allowed = {"alert": {"alert", "expr", "for", "labels", "annotations"}, "record": {"record", "expr", "labels"}}[kind]
            assert set(rule) <= allowed, rule
            assert re.fullmatch({"alert": "Steward[A-Za-z]+", "record": "steward:[a-z0-9_:]+"}[kind], rule[kind])
            assert re.fullmatch(r"[0-9]+[smh]", rule.get("for", "1m"))
            assert {"namespace", "release"} <= set(rule["labels"])
            assert all(isinstance(value, str) for value in (rule["labels"] | rule.get("annotations", {})).values())
            assert not re.search(r"@\w+@", rule["expr"])
    named = [rule.get("alert") or rule["record"] for rule in rules_of(values_file)]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("values_file", [ALL, MONITORED], ids=lambda path: path.stem)
def test_every_rule_is_logql_over_events_and_fields_of_the_catalogue(values_file):
    for rule in rules_of(values_file):
        labels = logql.check(rule["expr"])
        shown = " ".join(rule.get("annotations", {}).values())
        used = set(re.findall(r"\$labels\.(\w+)", shown))
        assert used <= labels | set(rule["labels"]), f"{rule['alert']} shows {used - labels}"
        assert set(re.findall(r"{{ *([^}|]*?) *(?:\|[^}]*)?}}", shown)) <= {"$value"} | {f"$labels.{name}" for name in labels}


def test_every_alert_has_a_severity_and_a_meaning():
    assert set(ALERTS) == set(ALERTS_IN_FILE)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert set(rule["annotations"]) >= {"summary", "description"}, name


@pytest.mark.parametrize(
    "expression, message",
    [
        ('sum(rate({a="b"}[1m])', "grammar"),
        ('{a="b"}', "reads everything"),
        ('{a="b"} |= `"event":"no_such_event"`', "not in the catalogue"),
        ('{a="b"} |= `"level":"FATAL"`', "not in the catalogue"),
        ('{a="b"} |= `stats`', "neither of an event nor of a level"),
        ('max_over_time({a="b"} |= `"event":"stats"` | json x="x" | unwrap x | __error__="" [1m])', "not in every line"),
        ('max_over_time({a="b"} |= `"event":"stats"` | json lag="lag" | unwrap lag | __error__="" [1m])', "no number"),
        ('max_over_time({a="b"} |= `"event":"stats"` | json lag_total="lag_total" | unwrap lag_total [1m])', "__error__"),
        ('count_over_time({a="b"} |~ `"event":"(stats|became_ready)"` | json phase="phase" [1m])', "not in every line"),
        ('sum by (node) (count_over_time({a="b"} |= `"event":"stats"` [1m]))', "which there is not"),
        ('count_over_time({a="b"} |= `"event":"stats"` [1m]) by (pod)', "cannot be grouped"),
        ('max_over_time({a="b"} |= `"event":"stats"` [1m])', "wrong way round"),
        ('sum(count_over_time({a="b"} |= `"event":"stats"` [1m])) / 2 > 3', "brackets"),
    ],
)
def test_the_check_of_an_expression_finds(expression, message):
    with pytest.raises(logql.Wrong, match=re.escape(message)):
        logql.check(expression)


def test_the_values_set_the_thresholds():
    def expression(name, *settings):
        found = support.with_settings("monitoring.rules.enabled=true", *settings)
        (text,) = [each["data"] for each in support.of_kind(found, "ConfigMap") if "config.toml" not in each["data"]]
        rules = [rule for group in yaml.safe_load(next(iter(text.values())))["groups"] for rule in group["rules"]]
        return next(rule["expr"] for rule in rules if rule.get("alert") == name)

    thresholds = "monitoring.rules.thresholds."
    assert expression("StewardLagAge", f"{thresholds}oldestAgeSeconds=600000").endswith("> 600000")
    assert expression("StewardMemoryNearLimit", f"{thresholds}memoryPercent=50").endswith("> 1073741824")
    assert expression("StewardStateNearLimit", f"{thresholds}statePercent=50").endswith("> 536870912")
    assert expression("StewardRestarting", f"{thresholds}startsPer30Minutes=9").endswith("> 9")
    assert expression("StewardRecoverySlow", f"{thresholds}recoverySeconds=9").endswith("> 9")
    assert expression("StewardTransactionsAborted", f"{thresholds}abortedPer10Minutes=0").endswith("> 0")


def test_a_share_is_written_as_in_the_values():
    assert alerts_of(MONITORED)["StewardDlqShare"]["expr"].endswith("> 0.0005")
    assert ALERTS["StewardDlqShare"]["expr"].endswith("> 0.01")


def test_alerts_that_are_disabled_or_cannot_be_are_left_out():
    assert set(alerts_of(MONITORED)) == set(ALERTS) - {"StewardSilent", "StewardLagAge"}
    assert set(alerts_of(WATCHED)) == set(ALERTS) - {"StewardMemoryNearLimit"}
    schema = json.loads((support.CHART / "values.schema.json").read_text())
    known = schema["properties"]["monitoring"]["properties"]["rules"]["properties"]["disabled"]["items"]["enum"]
    assert known == ALERTS_IN_FILE


def test_rules_have_the_labels_and_the_selector_of_the_values():
    for rule in rules_of(MONITORED):
        assert rule["labels"]["team"] == "catalogue"
        assert rule["labels"]["namespace"] == "catalogue"
        assert '{cluster="eu", namespace="catalogue", job=~"catalogue/steward"}' in rule["expr"]
    for rule in rules_of(WATCHED):
        assert '{namespace="catalogue", app="steward", release="prod"}' in rule["expr"]
    (found,) = [each for each in support.of_kind(support.rendered(MONITORED), "ConfigMap") if each["metadata"]["name"].endswith("-loki-rules")]
    assert {"loki_rule": "", "tenant": "catalogue", "team": "catalogue"}.items() <= found["metadata"]["labels"].items()
    assert found["metadata"]["annotations"] == {"k8s-sidecar-target-directory": "/rules/catalogue"}


def test_monitoring_is_off_by_default():
    (only,) = support.of_kind(support.rendered(), "ConfigMap")
    assert set(only["data"]) == {"config.toml"}


# ---------------------------------------------------------------------------------------------------------- meaning


def entry(text, at_s=NOW - 30, pod="prod-steward-0"):
    return logql.Entry(at_s, (("pod", pod),), text)


def many(event, times, every_s=5, **fields):
    return [entry(catalogue.line(event, **fields), NOW - 1 - number * every_s) for number in range(times)]


def numbers(count=60, every_s=10, pod="prod-steward-0", **rising):
    """`stats` of a healthy process for ten minutes; `rising` are (first, step) of counters, or fixed values."""
    quiet = {"oldest_age_ms": 40, "lag_total": 0, "recovering": "", "memory_rss_bytes": 400_000_000, "state_bytes": 1_000_000}
    counters = {"events_total": (0, 1000), "rejected_total": (0, 0)} | rising
    for number in range(count):
        now = {name: value[0] + value[1] * number if isinstance(value, tuple) else value for name, value in counters.items()}
        yield entry(catalogue.line("stats", **quiet | now), NOW - (count - number) * every_s, pod)


def firing(entries):
    """The alerts that these lines would raise, without `for`."""
    return {name for name, rule in ALERTS.items() if logql.evaluate(rule["expr"], entries, NOW)}


HEALTHY = list(numbers())

FIRES = {
    "StewardSilent": many("process_starting", 1, instance="prod-steward-0"),
    "StewardStalled": HEALTHY + many("progress_stalled", 1, waiting_for="commit"),
    "StewardRestarting": HEALTHY + many("process_starting", 4, every_s=300, instance="prod-steward-0"),
    "StewardProcessFailed": HEALTHY + many("process_failed", 1, exit_name="kafka_unavailable"),
    "StewardFenced": HEALTHY + many("producer_fenced", 1),
    "StewardLostWriteRepaired": HEALTHY + many("lost_write_repaired", 1),
    "StewardEventsExpired": HEALTHY + many("events_expired", 1, count=12),
    "StewardRefused": HEALTHY + many("preflight_refused", 1),
    "StewardPanicked": HEALTHY + many("entities_panicked", 1),
    "StewardLagAge": list(numbers(oldest_age_ms=61_000)),
    "StewardDlqShare": list(numbers(rejected_total=(5, 11))),
    "StewardRecoverySlow": HEALTHY + many("recovery_progress", 1, elapsed_ms=301_000, phase="state"),
    "StewardRecoveryFailing": HEALTHY + many("recovery_failed", 4),
    "StewardNotServing": list(numbers(recovering="3,7")),
    "StewardPartitionsUnserved": list(numbers(partitions_serving=4, partitions_total=6)),
    "StewardForeignMember": HEALTHY + many("foreign_member", 1, client_id="sarama"),
    "StewardInputTransactionOpen": HEALTHY + many("input_transaction_open", 1),
    "StewardTransactionsAborted": HEALTHY + many("transaction_in_doubt", 6),
    "StewardPartitionsLost": HEALTHY + many("partitions_lost", 3, every_s=60),
    "StewardCertificateExpires": HEALTHY + many("certificate_expires", 1),
    "StewardCredentialsRefused": HEALTHY + many("credentials_refused", 1),
    "StewardLogLinesDropped": HEALTHY + many("log_lines_dropped", 1),
    "StewardMemoryNearLimit": list(numbers(memory_rss_bytes=2_000_000_000)),
    "StewardStateNearLimit": list(numbers(state_bytes=1_000_000_000)),
}


# StewardError has every ERROR that no other alert has: a test of its own, below.
@pytest.mark.parametrize("name", [name for name in ALERTS_IN_FILE if name != "StewardError"])
def test_an_alert_fires_on_its_lines_and_no_other_does(name):
    assert firing(FIRES[name]) == {name}


def test_no_alert_fires_on_a_healthy_process():
    everyday = ("process_starting", "topics_checked", "partitions_assigned", "recovery_started", "recovery_finished", "became_ready")
    lines = HEALTHY + [each for event in everyday for each in many(event, 1)]
    lines += many("recovery_progress", 20, elapsed_ms=100_000) + many("recovery_failed", 3) + many("partitions_lost", 2)
    lines += many("transaction_aborted", 5) + many("process_starting", 2, instance="prod-steward-0")
    assert firing(lines) == set()


def test_other_pods_do_not_hide_a_pod_that_is_behind():
    behind = list(numbers(pod="prod-steward-1", oldest_age_ms=90_000))
    found = logql.evaluate(ALERTS["StewardLagAge"]["expr"], HEALTHY + behind, NOW)
    assert found == {frozenset({("pod", "prod-steward-1")}): 90.0}


def test_pods_that_serve_all_partitions_together_raise_nothing():
    halves = [each for number in range(2) for each in numbers(pod=f"prod-steward-{number}", partitions_serving=3, partitions_total=6)]
    assert firing(halves) == set()


def test_a_restart_of_the_counters_is_no_negative_share():
    restarted = list(numbers(30, events_total=(50_000, 1000), rejected_total=(400, 0)))[:15] + list(numbers(15))
    assert "StewardDlqShare" not in firing(restarted)


@pytest.mark.parametrize("event", sorted(name for name, (level, _) in catalogue.EVENTS.items() if level == "ERROR"))
def test_every_error_raises_exactly_one_alert(event):
    assert len(firing(HEALTHY + many(event, 1))) == 1


def test_an_unknown_error_is_not_missed():
    unknown = catalogue.line("lost_write_repaired").replace("lost_write_repaired", "something_new")
    assert firing([*HEALTHY, entry(unknown)]) == {"StewardError"}


def test_a_payload_cannot_pretend_to_be_an_event():
    quoted = catalogue.line("process_failed", error='said "event":"lost_write_repaired","level":"ERROR"', exit_name="config")
    assert firing([*HEALTHY, entry(quoted)]) == {"StewardProcessFailed"}


# ------------------------------------------------------------------------------------------------------- real lines
#
# Two processes on one broker, which SIGSTOP froze for 0.75 s every 3 s, with `steward produce --rate 30 --invalid-share
# 0.03`. The second one was stopped after 95 s, the first one after 120 s.


def real_lines(path):
    return [line for line in path.read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_lines_match_the_catalogue(path):
    mistakes = [each for line in real_lines(path) for each in catalogue.mistakes(line)]
    # Fields may be newer than the recording; none may be missing or changed.
    assert [each for each in mistakes if " lacks " not in each] == []


def in_loki(path):
    for line in real_lines(path):
        at = datetime.datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
        yield logql.Entry(at, (("pod", path.stem),), line)


def alerts_over(entries):
    """The alerts that a ruler raises from the first line to the last, evaluated once a minute."""
    first, last = min(each.at_s for each in entries), max(each.at_s for each in entries)
    raised = set()
    for name, rule in ALERTS.items():
        looks_in_a_row = 0
        for number in range(1, int((last - first) // 60) + 2):
            holds = logql.evaluate(rule["expr"], entries, first + 60 * number)
            looks_in_a_row = looks_in_a_row + 1 if holds else 0
            if looks_in_a_row > logql.seconds(rule.get("for", "0s")) / 60:
                raised.add(name)
    return raised


def test_recorded_processes_raise_the_one_alert_about_their_slow_brokers():
    entries = [each for path in RECORDED for each in in_loki(path)]
    seen = [json.loads(each.text)["event"] for each in entries]
    assert {"stats", "partitions_assigned", "partitions_revoked", "recovery_finished", "process_stopped"} <= set(seen)
    assert seen.count("transaction_in_doubt") > 5
    assert alerts_over(entries) == {"StewardTransactionsAborted"}


def test_a_process_that_finds_no_broker_raises_the_alert_of_its_exit_code(tmp_path):
    variables = {"STEWARD__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "STEWARD__KAFKA__TOPIC_WAIT_MS": "500"}
    variables |= {"STEWARD__HEALTH__FILE": str(tmp_path / "heartbeat"), "STEWARD__LOG__FORMAT": "json", "POD_NAME": "prod-steward-0"}
    done = subprocess.run(
        [os.environ["STEWARD"], "run", "--config", support.ROOT / "config.toml"],
        env=variables | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert [mistake for line in lines for mistake in catalogue.mistakes(line)] == []
    entries = [entry(line) for line in lines]
    found = logql.evaluate(ALERTS["StewardProcessFailed"]["expr"], entries, NOW)
    assert [dict(labels)["exit_name"] for labels in found] == ["kafka_unavailable"]


# ---------------------------------------------------------------------------------------------------- the dashboard


def test_the_dashboard_is_up_to_date():
    assert dashboard.FILE.read_text() == dashboard.text(), "run: python tests/helm/dashboard.py"


@pytest.mark.parametrize("values_file", [WATCHED, MONITORED], ids=lambda path: path.stem)
def test_every_query_of_the_dashboard_is_logql_over_the_catalogue(values_file):
    count = 0
    for panel in board(values_file)["panels"]:
        for target in panel.get("targets", []):
            labels = logql.check(in_grafana(target["expr"]))
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert panel["type"] == "logs" or legend <= labels, f"{panel['title']} shows {legend - labels}"
            count += 1
    assert count > 30


def test_the_dashboard_draws_something_of_real_lines():
    entries = [each for path in RECORDED for each in in_loki(path)]
    last = max(each.at_s for each in entries if '"event":"stats"' in each.text)
    empty = set()
    for panel in board()["panels"]:
        for target in panel.get("targets", []):
            if panel["type"] != "logs" and not logql.evaluate(in_grafana(target["expr"]), entries, last):
                empty.add(panel["title"])
    assert empty <= {"Problems", "Errors, 1 hour", "Warnings and errors", "Running recoveries", "Duration of recoveries", "Rebalances", "DLQ records, by reason", "Starts and ends"}


def test_the_panels_of_the_dashboard_do_not_overlap_and_are_numbered():
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_two_releases_have_two_dashboards():
    def of(release):
        documents = support.rendered(WATCHED, release=release)
        (found,) = [each for each in support.of_kind(documents, "ConfigMap") if each["metadata"]["name"].endswith("-dashboard")]
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        ((file, text),) = found["data"].items()
        about = json.loads(text)
        assert len(about["uid"]) <= 40
        return file, about["uid"], about["title"]

    assert not set(of("prod")) & set(of("staging"))


# ----------------------------------------------------------------------------------------------------- the shippers

NEEDS_ALLOY = pytest.mark.skipif("CHECK_ALLOY" not in os.environ, reason="no Go is here to build Alloy's parser with")
# The components that are used, with their attributes.
ALLOY = {
    "discovery.kubernetes": {"role"},
    "discovery.kubernetes namespaces": {"names", "own_namespace"},
    "discovery.kubernetes selectors": {"role", "label", "field"},
    "discovery.relabel": {"targets"},
    "discovery.relabel rule": {"source_labels", "regex", "action", "target_label", "replacement", "separator", "modulus"},
    "loki.source.kubernetes": {"targets", "forward_to"},
    "loki.process": {"forward_to"},
    "loki.process stage.json": {"expressions", "drop_malformed", "source"},
    "loki.process stage.timestamp": {"source", "format", "action_on_failure", "fallback_formats", "location"},
    "loki.process stage.regex": {"expression", "source", "labels_from_groups"},
    "loki.process stage.structured_metadata": {"values", "regex"},
    "loki.process stage.label_keep": {"values"},
    "loki.write": {"external_labels", "max_streams"},
    "loki.write endpoint": {"url", "tenant_id", "name", "headers", "batch_wait", "batch_size"},
}


def alloy(values_file):
    text = part(values_file, "-alloy")
    done = subprocess.run([os.environ["CHECK_ALLOY"]], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["blocks"]


def keys(text):
    """The keys of an object, or the strings of a list, as Alloy prints them."""
    return set(re.findall(r"^\s*(\w+)\s*=", text, re.M)) if text.startswith("{") else set(json.loads(text))


@NEEDS_ALLOY
@pytest.mark.parametrize("values_file", [WATCHED, MONITORED], ids=lambda path: path.stem)
def test_alloy_parses_its_configuration_and_every_reference_resolves(values_file):
    blocks = alloy(values_file)
    there = {f"{block['name']}.{block['label']}" for block in blocks}
    for block in blocks:
        for inner in [block | {"name": ""}, *block["blocks"]]:
            kind = f"{block['name']} {inner['name']}".strip()
            assert set(inner["attributes"]) <= ALLOY[kind], kind
        for value in block["attributes"].values():
            for named in re.findall(r"\b(?:discovery|loki)(?:\.\w+)+", value):
                assert named.rsplit(".", 1)[0] in there
                assert named.rsplit(".", 1)[1] in ("targets", "output", "receiver")


@NEEDS_ALLOY
def test_alloy_puts_no_pod_and_no_trace_into_the_index():
    stages = {block["name"]: block["attributes"] for each in alloy(WATCHED) if each["name"] == "loki.process" for block in each["blocks"]}
    assert keys(stages["stage.label_keep"]["values"]) == INDEX
    assert keys(stages["stage.structured_metadata"]["values"]) == logql.BESIDE - INDEX
    every_field = {name for event in catalogue.EVENTS for name in catalogue.fields_of(event)}
    assert keys(stages["stage.json"]["expressions"]) <= every_field
    assert list(stages)[-1] == "stage.label_keep"
    relabelled = [each for block in alloy(WATCHED) if block["name"] == "discovery.relabel" for each in block["blocks"]]
    targets = {json.loads(rule["attributes"]["target_label"]) for rule in relabelled if "target_label" in rule["attributes"]}
    assert targets == INDEX | {"pod", "container"}


def vector(values_file=WATCHED):
    return yaml.safe_load(part(values_file, "-vector"))


def through_vector(line):
    """Runs Vector's transform on a line. Returns (structured metadata, time)."""
    event = {"message": line, "timestamp": "read", "kubernetes": {"pod_name": "prod-steward-0", "container_name": "steward"}}
    program = vector()["transforms"]["steward_lines"]["source"]
    done = vrl_python.VRLRuntime().execute(program, event).processed_event
    assert done["message"] == line
    return done["steward"], str(done["timestamp"])


@pytest.mark.parametrize("values_file", [WATCHED, MONITORED], ids=lambda path: path.stem)
def test_vector_sends_what_it_reads_to_loki(values_file):
    found = vector(values_file)
    assert set(found) == {"sources", "transforms", "sinks"}
    ((source, about),) = found["sources"].items()
    assert set(about) == {"type", "extra_field_selector", "extra_label_selector"}
    ((transform, lines),) = found["transforms"].items()
    assert (lines["type"], lines["inputs"]) == ("remap", [source])
    (sink,) = found["sinks"].values()
    assert (sink["type"], sink["inputs"], sink["encoding"]) == ("loki", [transform], {"codec": "text"})
    assert sink["tenant_id"] == {WATCHED: None, MONITORED: "catalogue"}[values_file]
    assert set(sink["labels"]) == INDEX
    assert not any("{{" in value for value in sink["labels"].values())
    assert sink["structured_metadata"] == {"*": "{{ steward }}"}


def test_vector_writes_the_structured_metadata_of_a_line():
    trace = "0af7651916cd43dd8448eb211c80319c"
    beside, at = through_vector(catalogue.line("event_rejected", trace_id=trace))
    assert beside == {
        "pod": "prod-steward-0",
        "container": "steward",
        "level": "WARN",
        "event": "event_rejected",
        "trace_id": trace,
    }
    assert set(beside) == logql.BESIDE - INDEX
    assert at.startswith("2026-01-31 12:00:00")


@pytest.mark.parametrize("line", ["thread 'main' panicked", "", "[1]", '"event"', '{"level":3,"event":{},"trace_id":7}', "{"])
def test_vector_accepts_lines_of_other_programs(line):
    assert through_vector(line) == ({"pod": "prod-steward-0", "container": "steward"}, "read")


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_vector_reads_recorded_lines(path):
    for line in real_lines(path)[:50]:
        beside, at = through_vector(line)
        assert beside["event"] == json.loads(line)["event"]
        assert at != "read"


def test_both_shippers_read_the_pods_that_serve_and_no_others():
    documents = support.rendered(WATCHED)
    serving = support.one(documents, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    wanted = dict(each.split("=") for each in vector()["sources"]["steward_pods"]["extra_label_selector"].split(","))
    assert wanted.items() <= serving.items()
    assert not wanted.items() <= support.one(documents, "Pod")["metadata"]["labels"].items()
    assert json.dumps(vector()["sources"]["steward_pods"]["extra_label_selector"]) in part(WATCHED, "-alloy")


# ------------------------------------------------------------------------------------------------------ the runbook

PARTS = ("Sign", "Meaning", "First look", "What to do", "Escalate")


def sections():
    """heading -> text"""
    found = re.split(r"^## ", RUNBOOK, flags=re.M)[1:]
    return {text.split("\n", 1)[0]: text.split("\n", 1)[1] for text in found if text.startswith("Steward")}


def test_every_alert_has_its_section_in_the_order_of_the_rules():
    assert list(sections()) == ALERTS_IN_FILE


@pytest.mark.parametrize("name", ALERTS_IN_FILE)
def test_a_section_has_sign_meaning_first_look_remedy_and_escalation(name):
    text = sections()[name]
    assert tuple(re.findall(r"^\*\*([A-Z][a-z ]+)\.\*\*", text, re.M)) == PARTS
    assert re.search(r"^```(sh|logql)$", text, re.M), "no command to look with"


def test_alerts_link_to_their_sections():
    anchors = {heading.lower() for heading in sections()}
    for name, rule in alerts_of(MONITORED).items():
        base, anchor = rule["annotations"]["runbook_url"].split("#")
        assert base == "https://docs.example.org/steward/runbook.md"
        assert anchor in anchors, name
    assert all("runbook_url" not in rule["annotations"] for rule in ALERTS.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_queries_that_a_page_shows_are_logql_over_the_catalogue(page):
    shown = re.findall(r"^```logql\n(.*?)^```$", page.read_text(), re.M | re.S)
    assert shown
    expressions = [expression.strip() for expression in shown]
    logql.learn(expressions)
    for expression in expressions:
        logql.check(expression)


def test_the_values_that_the_page_shows_are_accepted(tmp_path):
    page = (support.ROOT / "docs" / "monitoring.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    values = tmp_path / "values.yaml"
    values.write_text(shown)
    documents = list(yaml.safe_load_all(support.helm("template", "steward", support.CHART, "--values", values)))
    names = {each["metadata"]["name"] for each in support.of_kind(documents, "ConfigMap")}
    assert names == {"steward", "steward-loki-rules", "steward-dashboard", "steward-alloy"}
    assert all(f"`{name}`" in page for name in names - {"steward"} | {"steward-vector"})


def test_the_page_names_every_recorded_series():
    page = (support.ROOT / "docs" / "monitoring.md").read_text()
    recorded = {rule["record"] for rule in rules_of(ALL) if "record" in rule}
    assert set(re.findall(r"`(steward:[a-z0-9_:]+)`", page)) == recorded


def test_the_runbook_selects_only_existing_events():
    for text in re.findall(r'\.event == "(\w+)"', RUNBOOK):
        assert text in catalogue.EVENTS
