"""Guarantees for every accepted set of values: the defaults, and those in values/."""

import os

import kubernetes_validate
import pytest

import support

# The oldest version that Chart.yaml allows, and the newest known one.
KUBERNETES_VERSIONS = ["1.27", "1.37"]
NOT_OF_KUBERNETES = {"ScaledObject"}

every_set = pytest.mark.parametrize("values_file", support.VALUES_SETS, ids=lambda path: path.stem)


@every_set
@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_knows_every_field(values_file, version):
    documents = support.rendered(values_file)
    for document in documents:
        if document["kind"] not in NOT_OF_KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)
    assert documents


@pytest.mark.skipif("OLDER_HELM" not in os.environ, reason="one helm was given, so there is no older helm")
@every_set
def test_helm_3_renders_the_same(values_file):
    def in_order(documents):
        return sorted(documents, key=lambda document: (document["kind"], document["metadata"]["name"]))

    older = support.rendered(values_file, program="OLDER_HELM")
    assert in_order(older) == in_order(support.rendered(values_file))


@every_set
def test_steward_accepts_the_configuration(values_file, tmp_path):
    code, output, mistakes = support.check_configuration(support.rendered(values_file), tmp_path)
    assert not mistakes, output
    assert code == 0, output


@every_set
def test_every_pod_fits_the_restricted_standard(values_file):
    for _, pod in support.pod_specs(support.rendered(values_file)):
        own = pod.get("securityContext", {})
        assert own.get("runAsNonRoot") is True
        assert own.get("runAsUser", 65532) != 0
        assert own["seccompProfile"]["type"] == "RuntimeDefault"
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            assert forbidden not in pod
        for container in pod["containers"] + pod.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"]["drop"] == ["ALL"]
            assert "add" not in context["capabilities"]
        for volume in pod["volumes"]:
            assert "hostPath" not in volume


@every_set
def test_only_the_heartbeat_can_be_written_to(values_file):
    documents = support.rendered(values_file)
    container = support.main_container(documents)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    own = {"config", "heartbeat", "credentials"}
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")} & own
    assert writable == {"heartbeat"}


@every_set
def test_no_pod_gets_a_token_of_the_kubernetes_api(values_file):
    documents = support.rendered(values_file)
    for _, pod in support.pod_specs(documents):
        assert pod["automountServiceAccountToken"] is False
    for account in support.of_kind(documents, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@every_set
def test_no_port_is_open(values_file):
    documents = support.rendered(values_file)
    assert not support.of_kind(documents, "Service")
    for _, pod in support.pod_specs(documents):
        assert all("ports" not in container for container in pod["containers"])
    for policy in support.of_kind(documents, "NetworkPolicy"):
        assert policy["spec"]["ingress"] == []
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}


@every_set
def test_mounts_and_volumes_match(values_file):
    for _, pod in support.pod_specs(support.rendered(values_file)):
        mounted = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


@every_set
def test_selectors_find_the_pods_that_serve_and_only_the_policy_finds_the_test(values_file):
    documents = support.rendered(values_file)
    stateful_set = support.one(documents, "StatefulSet")["spec"]
    serving = stateful_set["template"]["metadata"]["labels"]
    assert support.matches(stateful_set["selector"], serving)
    for constraint in stateful_set["template"]["spec"].get("topologySpreadConstraints", []):
        assert support.matches(constraint["labelSelector"], serving)
    budgets = support.of_kind(documents, "PodDisruptionBudget")
    policies = support.of_kind(documents, "NetworkPolicy")
    assert all(support.matches(budget["spec"]["selector"], serving) for budget in budgets)
    assert all(support.matches(policy["spec"]["podSelector"], serving) for policy in policies)
    for test in support.of_kind(documents, "Pod"):
        labels = test["metadata"]["labels"]
        assert not support.matches(stateful_set["selector"], labels)
        assert not any(support.matches(budget["spec"]["selector"], labels) for budget in budgets)
        assert all(support.matches(policy["spec"]["podSelector"], labels) for policy in policies)


@every_set
def test_replicas_are_left_to_an_autoscaler_that_points_at_the_set(values_file):
    documents = support.rendered(values_file)
    stateful_set = support.one(documents, "StatefulSet")
    scalers = support.of_kind(documents, "HorizontalPodAutoscaler") + support.of_kind(documents, "ScaledObject")
    assert len(scalers) <= 1
    assert ("replicas" in stateful_set["spec"]) == (not scalers)
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("StatefulSet", stateful_set["metadata"]["name"])


@every_set
def test_a_drain_ends_before_the_pod_is_killed(values_file):
    documents = support.rendered(values_file)
    pod = support.one(documents, "StatefulSet")["spec"]["template"]["spec"]
    drain_ms = next(
        (int(line.split("=")[1]) for line in support.configuration(documents).splitlines() if "drain_timeout_ms" in line),
        25_000,
    )
    assert pod["terminationGracePeriodSeconds"] * 1000 > drain_ms


@every_set
def test_probes_read_the_file_that_the_process_writes(values_file):
    documents = support.rendered(values_file)
    container = support.main_container(documents)
    written = support.environment(documents)["STEWARD__HEALTH__FILE"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert written.startswith(mounts["heartbeat"] + "/")
    commands = {name: container[name]["exec"]["command"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert commands == {
        "startupProbe": ["/steward", "health", "live", "--file", written],
        "livenessProbe": ["/steward", "health", "live", "--file", written],
        "readinessProbe": ["/steward", "health", "ready", "--file", written],
    }


@every_set
def test_names_are_short_enough_for_kubernetes(values_file):
    documents = support.rendered(values_file, release="a-release-whose-name-is-as-long-as-helm-lets-it-be-53")
    for document in documents:
        assert len(document["metadata"]["name"]) <= 63
        for value in document["metadata"].get("labels", {}).values():
            assert len(value) <= 63
    revision = "-0123456789"
    assert len(support.one(documents, "StatefulSet")["metadata"]["name"] + revision) <= 63
