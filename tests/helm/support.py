"""Renders the chart with the real helm, and runs the real steward on the output.

`scripts/chart-check` sets the paths of the programs: HELM, OLDER_HELM and STEWARD in the environment.
"""

import functools
import os
import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "steward"
VALUES_SETS = sorted((pathlib.Path(__file__).parent / "values").glob("*.yaml"))
CREDENTIALS_FOLDER = "/etc/steward-credentials"


class Refused(Exception):
    """helm's message about why it does not render."""


def helm(*arguments, program="HELM"):
    """Runs helm, and returns what it prints."""
    done = subprocess.run(
        [os.environ[program], *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


@functools.lru_cache(maxsize=None)
def rendered_text(values_file=None, release="prod", chart=CHART, settings=(), program="HELM"):
    """All manifests of a release as text. `settings` are `key=value` of `--set`."""
    arguments = ["template", release, chart, "--namespace", "catalogue"]
    if values_file is not None:
        arguments += ["--values", values_file]
    for setting in settings:
        arguments += ["--set", setting]
    return helm(*arguments, program=program)


def rendered(values_file=None, **options):
    """All manifests of a release."""
    return [document for document in yaml.safe_load_all(rendered_text(values_file, **options)) if document]


def with_settings(*settings, **options):
    """All manifests of a release whose values differ from the defaults in these `key=value`."""
    return rendered(settings=settings, **options)


def of_kind(documents, kind):
    """The manifests of a kind."""
    return [document for document in documents if document["kind"] == kind]


def one(documents, kind):
    """The one manifest of a kind."""
    found = of_kind(documents, kind)
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


def pod_specs(documents):
    """The specification of every pod of the manifests, with its labels."""
    stateful_set = one(documents, "StatefulSet")["spec"]["template"]
    yield stateful_set["metadata"]["labels"], stateful_set["spec"]
    for pod in of_kind(documents, "Pod"):
        yield pod["metadata"]["labels"], pod["spec"]


def main_container(documents):
    """The container that serves."""
    return one(documents, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]


def configuration(documents):
    """The configuration as text."""
    (found,) = [each for each in of_kind(documents, "ConfigMap") if "config.toml" in each["data"]]
    return found["data"]["config.toml"]


def matches(selector, labels):
    """Whether a selector's matchLabels fit."""
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items())


def expand(value, variables):
    """Replaces `$(NAME)` in a variable's value, as Kubernetes does."""
    return re.sub(r"\$\(([A-Z_]+)\)", lambda found: variables[found[1]], value)


def environment(documents):
    """The variables of the container, as the pod `prod-steward-0` gets them; values from a Secret are invented."""
    variables = {}
    for variable in main_container(documents)["env"]:
        name = variable["name"]
        source = variable.get("valueFrom", {})
        if "value" in variable:
            variables[name] = expand(variable["value"], variables)
        elif source.get("fieldRef", {}).get("fieldPath") == "metadata.name":
            variables[name] = one(documents, "StatefulSet")["metadata"]["name"] + "-0"
        else:
            variables[name] = "invented"
    return variables


def check_configuration(documents, folder):
    """Runs `steward config check` on the configuration of a pod. Returns (exit code, output, mistakes).

    A message that this build has no TLS is no mistake: the image is built with TLS.
    """
    folder = pathlib.Path(folder)
    text = configuration(documents)
    for kind, path in re.findall(r'(\w+)_file = "([^"]+)"', text):
        placeholder = folder / path.strip("/").replace("/", "_")
        placeholder.write_text(PEM_PLACEHOLDER if kind in ("ca", "certificate", "key") else "a secret of this test\n")
        text = text.replace(f'"{path}"', f'"{placeholder}"')
    file = folder / "config.toml"
    file.write_text(text)
    variables = environment(documents) | {"STEWARD_CONFIG": str(file), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [os.environ["STEWARD"], "config", "check"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("  ")]
    mistakes = [line for line in lines if "which this build does not have" not in line]
    code = 0 if lines and not mistakes else done.returncode
    return code, done.stdout + done.stderr, mistakes


# Enough of a certificate for a check that does not parse it.
PEM_PLACEHOLDER = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
