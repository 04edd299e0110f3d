"""Files with the same facts agree: schema, values, README, docs/configuration.md, config.toml, compose.yaml."""

import json
import os
import re
import subprocess
import tomllib

import pytest
import yaml

import readme
import support

VALUES, SCHEMA = readme.load()
PAGE = (support.ROOT / "docs" / "configuration.md").read_text()
DEFAULTS_TEXT = (support.ROOT / "config.toml").read_text()
DEFAULTS = tomllib.loads(DEFAULTS_TEXT)

# Keys that the chart sets itself, or that would put a secret into a ConfigMap.
NOT_IN_VALUES = {
    "kafka.instance_name",
    "health.file",
    "kafka.security.password",
    "kafka.security.key_password",
}


def documented_keys():
    """key -> (type, range) from the tables of docs/configuration.md."""
    keys = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"`[a-z_]+(\.[a-z_]+)+`", cells[0]):
            keys[cells[0].strip("`")] = (cells[1], cells[3])
    return keys


def schema_keys(schema, path=()):
    """key -> its schema, as `kafka.group_id`."""
    for name, about in schema["properties"].items():
        if "properties" in about:
            yield from schema_keys(about, (*path, name))
        elif name != "properties":
            yield ".".join((*path, name)), about


DOCUMENTED = documented_keys()
IN_SCHEMA = dict(schema_keys(SCHEMA["properties"]["config"]))


def test_the_schema_knows_every_documented_key_and_no_other():
    assert len(DOCUMENTED) > 40
    assert set(IN_SCHEMA) == set(DOCUMENTED) - NOT_IN_VALUES


@pytest.mark.parametrize("key", sorted(IN_SCHEMA))
def test_the_schema_allows_what_the_page_allows(key):
    kind, allowed = DOCUMENTED[key]
    about = IN_SCHEMA[key]
    if kind == "number":
        lowest, highest = map(int, re.match(r"(\d+) to (\d+)", allowed).groups())
        assert (about["type"], about["minimum"], about["maximum"]) == ("integer", lowest, highest)
    elif kind == "flag":
        assert about["type"] == "boolean"
    elif kind == "word":
        assert about["enum"] == re.findall(r'"([^"]+)"', allowed)
    else:
        assert kind in ("text", "file")
        assert about["type"] == "string"


def test_the_schema_allows_the_properties_of_the_page_and_no_other():
    rows = re.findall(r"^\| (?:all|consumers|producers) \| (.*) \|$", PAGE, re.M)
    assert len(rows) == 3
    documented = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    properties = SCHEMA["properties"]["config"]["properties"]["kafka"]["properties"]["properties"]
    assert set(properties["propertyNames"]["enum"]) == documented


def test_the_defaults_that_the_chart_assumes_are_those_of_steward():
    helpers = (support.CHART / "templates" / "_helpers.tpl").read_text()
    assumed = re.findall(r'"steward\.configNumber" \(list \. "(\w+)" "(\w+)" (\d+)\)', helpers)
    assert len(assumed) >= 8
    for section, key, default in assumed:
        assert DEFAULTS[section][key] == int(default), f"{section}.{key}"


def test_the_configuration_in_the_values_is_that_of_config_toml_except_the_address():
    given = dict(VALUES["config"]["kafka"])
    assert given.pop("bootstrap_servers") == "kafka:9092"
    assert given == {key: DEFAULTS["kafka"][key] for key in given}


def test_the_chart_counts_memory_as_the_page_does():
    page = (support.ROOT / "docs" / "operating.md").read_text()
    for counted in ("1.5 x `limits.max_transaction_bytes`, at least 64 MiB", "about 1.3 KB each", "an eighth", "240 bytes", "12 MiB", "some 50 MB"):
        assert counted in page


def test_every_value_has_a_default_and_a_meaning():
    for path, _, description in readme.rows(VALUES, SCHEMA):
        assert description, path
    known = {path for path, _, _ in readme.rows(VALUES, SCHEMA)}
    for path in known:
        here = VALUES
        for name in path.split("."):
            assert name in here, f"{path} is not in values.yaml"
            here = here[name]


def test_the_table_of_the_readme_is_up_to_date():
    text = readme.README.read_text()
    assert text == readme.with_table(text), "run: python tests/helm/readme.py"


def test_chart_and_program_have_one_version():
    about = yaml.safe_load((support.CHART / "Chart.yaml").read_text())
    cargo = tomllib.loads((support.ROOT / "Cargo.toml").read_text())
    assert about["appVersion"] == cargo["package"]["version"]
    output = subprocess.run([os.environ["STEWARD"], "--version"], capture_output=True, text=True, check=True).stdout
    assert output.split()[1] == about["appVersion"]


def test_compose_uses_the_kafka_of_the_tests_and_a_configuration_that_steward_accepts():
    compose = yaml.safe_load((support.ROOT / "compose.yaml").read_text())
    version = re.search(r"<kafka.version>(.+)</kafka.version>", (support.ROOT / "scripts/kafka.d/pom.xml").read_text())[1]
    for service in ("kafka", "topic"):
        assert compose["services"][service]["image"].endswith(f"/kafka:{version}")
    environment = compose["services"]["steward"]["environment"]
    done = subprocess.run(
        [os.environ["STEWARD"], "config", "check", "--config", support.ROOT / "config.toml"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grace_s = int(compose["services"]["steward"]["stop_grace_period"].rstrip("s"))
    assert grace_s * 1000 > DEFAULTS["shutdown"]["drain_timeout_ms"]


def test_the_image_has_what_the_chart_expects():
    dockerfile = (support.ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["/steward"]' in dockerfile
    assert 'CMD ["run"]' in dockerfile
    assert "USER 65532:65532" in dockerfile
    assert "--features tls" in dockerfile
    context = support.main_container(support.rendered())
    assert context["command"] + context["args"] == ["/steward", "run"]
    pod = support.one(support.rendered(), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 65532


def test_the_build_of_the_image_gets_every_file_that_it_copies():
    ignored = (support.ROOT / ".dockerignore").read_text().splitlines()
    dockerfile = (support.ROOT / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.M) for name in line.split()}
    assert copied == {"Cargo.toml", "Cargo.lock", "config.toml", "src"}
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    embedded = subprocess.run(
        ["grep", "-rhoE", r'include_(str|bytes)!\("[^"]+"\)', support.ROOT / "src"], capture_output=True, text=True, check=False
    ).stdout
    outside = {path.split("../")[-1] for path in re.findall(r'"((?:\.\./)+[^"]+)"', embedded)}
    assert outside <= copied


def test_the_values_that_the_page_shows_are_accepted(tmp_path):
    page = (support.ROOT / "docs" / "deploying.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    shown = [block for block in blocks if "apiVersion" not in block]
    assert len(shown) == 2
    files = []
    for number, block in enumerate(shown):
        files += ["--values", tmp_path / f"{number}.yaml"]
        files[-1].write_text(block)
    documents = list(yaml.safe_load_all(support.helm("template", "steward", support.CHART, *files)))
    assert support.one(documents, "StatefulSet")["metadata"]["name"] == "steward"
    assert support.one(documents, "ScaledObject")["spec"]["maxReplicaCount"] == 12


@pytest.mark.parametrize("values_file", support.VALUES_SETS, ids=lambda path: path.stem)
def test_every_set_of_values_says_what_it_is(values_file):
    assert values_file.read_text().startswith("# ")


def test_the_schema_is_draft_7_which_helm_3_and_4_both_know():
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    json.dumps(SCHEMA)
