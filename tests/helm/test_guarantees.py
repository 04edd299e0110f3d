"""Single promises of the chart, each shown by the values that would break it."""

import shutil

import pytest
import yaml

import support
from support import with_settings

SCRAM = support.ROOT / "tests" / "helm" / "values" / "scram_tls.yaml"


def pod_template(documents):
    return support.one(documents, "StatefulSet")["spec"]["template"]


def values_file(name):
    return support.ROOT / "tests" / "helm" / "values" / f"{name}.yaml"


# ------------------------------------------------------------------------------------------------------- identity


def test_the_pods_name_is_the_instance_name():
    documents = support.rendered()
    variable = next(each for each in support.main_container(documents)["env"] if each["name"] == "POD_NAME")
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert support.one(documents, "StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"


def test_a_prefix_makes_the_names_of_pods_unique():
    variables = support.environment(support.rendered(values_file("two_clusters")))
    assert variables["STEWARD__KAFKA__INSTANCE_NAME"] == "eu-west-1.prod-steward-0"


def test_no_label_of_the_values_breaks_a_selector():
    documents = support.rendered(values_file("placed"))
    labels = pod_template(documents)["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "services"
    assert labels["app.kubernetes.io/instance"] == "prod"
    assert labels["app.kubernetes.io/component"] == "processor"
    assert labels["team"] == "catalogue"


# ------------------------------------------------------------------------------------------- when pods are replaced


def test_another_configuration_replaces_the_pods():
    assert pod_template(with_settings("config.log.level=debug")) != pod_template(support.rendered())


@pytest.mark.parametrize("setting", ["replicaCount=5", "podDisruptionBudget.maxUnavailable=2", "minReadySeconds=20"])
def test_a_change_outside_of_the_pods_replaces_none(setting):
    assert pod_template(with_settings(setting)) == pod_template(support.rendered())


def test_a_new_version_of_the_chart_alone_replaces_none(tmp_path):
    copy = tmp_path / "steward"
    shutil.copytree(support.CHART, copy)
    about = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": "9.9.9"}))
    assert pod_template(support.rendered(chart=copy)) == pod_template(support.rendered())


def test_one_pod_is_replaced_at_a_time_and_must_stay_ready():
    specification = support.one(support.rendered(), "StatefulSet")["spec"]
    assert specification["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert specification["minReadySeconds"] == 10


def test_a_drain_of_nodes_evicts_one_pod_at_a_time_by_default():
    def budget(documents):
        specification = support.one(documents, "PodDisruptionBudget")["spec"]
        return {key: value for key, value in specification.items() if key.endswith("vailable")}

    assert budget(support.rendered()) == {"maxUnavailable": 1}
    assert budget(with_settings("podDisruptionBudget.maxUnavailable=0")) == {"maxUnavailable": 0}
    assert budget(support.rendered(values_file("min_available"))) == {"minAvailable": "80%"}


def test_deleting_by_hand_has_no_rolling_update():
    strategy = support.one(support.rendered(values_file("by_hand")), "StatefulSet")["spec"]["updateStrategy"]
    assert strategy == {"type": "OnDelete"}


# ------------------------------------------------------------------------------------------------------ time limits


def test_a_pod_may_wait_for_its_topic_as_long_as_it_is_configured_to():
    probe = support.main_container(with_settings("config.kafka.topic_wait_ms=600000"))["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 600 + 90


def test_the_grace_period_follows_the_drain_and_can_be_set():
    followed = pod_template(with_settings("config.shutdown.drain_timeout_ms=90500"))
    assert followed["spec"]["terminationGracePeriodSeconds"] == 101
    given = pod_template(with_settings("terminationGracePeriodSeconds=300"))
    assert given["spec"]["terminationGracePeriodSeconds"] == 300


def test_a_zero_is_not_treated_as_unset():
    documents = support.rendered(values_file("stopped"))
    assert support.one(documents, "StatefulSet")["spec"]["replicas"] == 0
    startup = support.main_container(with_settings("config.kafka.topic_wait_ms=0"))["startupProbe"]
    assert startup["failureThreshold"] == 45
    assert "topic_wait_ms = 0" in support.configuration(with_settings("config.kafka.topic_wait_ms=0"))


# --------------------------------------------------------------------------------------------------- configuration


def test_large_numbers_stay_numbers_of_digits():
    text = support.configuration(support.rendered(values_file("every_number")))
    assert "max_state_bytes = 1099511627776\n" in text
    assert "verify_max_records = 1000000000000\n" in text
    assert "e+" not in text


def test_only_keys_that_are_set_are_written_so_that_other_defaults_can_adapt():
    assert "max_state_bytes" not in support.configuration(support.rendered())


def test_secrets_are_files_of_one_volume_that_only_the_group_may_read():
    documents = support.rendered(SCRAM)
    volume = next(each for each in pod_template(documents)["spec"]["volumes"] if each["name"] == "credentials")
    assert volume["projected"]["defaultMode"] == 0o440
    assert volume["projected"]["sources"] == [
        {"secret": {"name": "kafka-user", "items": [{"key": "password", "path": "password"}]}},
        {"configMap": {"name": "kafka-ca", "items": [{"key": "ca-bundle.pem", "path": "ca.crt"}]}},
    ]
    text = support.configuration(documents)
    assert 'password_file = "/etc/steward-credentials/password"' in text
    assert 'ca_file = "/etc/steward-credentials/ca.crt"' in text


def test_every_file_that_the_configuration_names_is_mounted():
    documents = support.rendered(values_file("mutual_tls"))
    volume = next(each for each in pod_template(documents)["spec"]["volumes"] if each["name"] == "credentials")
    mounted = {
        f"{support.CREDENTIALS_FOLDER}/{item['path']}"
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    named = {line.split('"')[1] for line in support.configuration(documents).splitlines() if "_file = " in line}
    assert named == mounted
    assert len(named) == 5


def test_a_user_name_can_come_from_the_secret_of_the_password():
    variables = {each["name"]: each for each in support.main_container(support.rendered(values_file("scram")))["env"]}
    source = variables["STEWARD__KAFKA__SECURITY__USERNAME"]["valueFrom"]["secretKeyRef"]
    assert source == {"name": "prod-kafka", "key": "username"}


def test_a_projected_token_is_for_kafka_alone():
    documents = support.rendered(values_file("oauth_projected"))
    volume = next(each for each in pod_template(documents)["spec"]["volumes"] if each["name"] == "credentials")
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {"audience": "kafka", "expirationSeconds": 3600, "path": "token"}


# --------------------------------------------------------------------------------------------------------- network


def ports_out(documents):
    rules = support.one(documents, "NetworkPolicy")["spec"]["egress"]
    return [[(port["protocol"], port["port"]) for port in rule["ports"]] for rule in rules]


def test_egress_is_allowed_to_dns_and_the_ports_of_the_brokers():
    documents = support.rendered(values_file("every_number"))
    assert ports_out(documents) == [[("UDP", 53), ("TCP", 53)], [("TCP", 9092), ("TCP", 9094)]]


def test_dns_may_answer_on_other_ports():
    dns, _ = ports_out(support.rendered(values_file("openshift")))
    assert dns == [("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)]


def test_advertised_ports_and_the_addresses_of_brokers_can_be_set():
    documents = support.rendered(values_file("min_available"))
    dns, kafka = support.one(documents, "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in kafka["ports"]] == [9092, 9095]
    assert kafka["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kafka"}
    assert dns["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}


# --------------------------------------------------------------------------------------------------------- scaling


def trigger(documents):
    return support.one(documents, "ScaledObject")["spec"]["triggers"][0]


def test_keda_reads_the_lag_of_the_configured_group_and_topic():
    documents = with_settings(
        "autoscaling.keda.enabled=true", "config.kafka.group_id=blue", "config.kafka.topic=events"
    )
    metadata = trigger(documents)["metadata"]
    assert (metadata["consumerGroup"], metadata["topic"]) == ("blue", "events")
    # A group that never committed starts at the earliest record; with `latest` it would never be started.
    assert metadata["offsetResetPolicy"] == "earliest"


def test_every_value_of_the_triggers_metadata_is_a_string():
    metadata = trigger(support.rendered(values_file("keda")))["metadata"]
    assert all(isinstance(value, str) for value in metadata.values())
    assert metadata["lagThreshold"] == "1000000"
    assert metadata["allowIdleConsumers"] == "true"


def test_keda_gets_the_security_settings_of_the_brokers():
    found = trigger(support.rendered(values_file("keda_scram")))
    assert found["metadata"]["sasl"] == "scram_sha256"
    assert found["metadata"]["tls"] == "enable"
    assert found["metadata"]["bootstrapServers"] == "b-0.example.org:9093,b-1.example.org:9093"
    assert found["authenticationRef"] == {"kind": "ClusterTriggerAuthentication", "name": "kafka"}


def test_scaling_in_takes_one_pod_at_a_time():
    hpa = support.one(support.rendered(values_file("hpa")), "HorizontalPodAutoscaler")
    keda = support.one(support.rendered(values_file("keda")), "ScaledObject")
    for behavior in (
        hpa["spec"]["behavior"],
        keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
    ):
        assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]


# ------------------------------------------------------------------------------------------------------- helm test


def test_helm_test_connects_with_the_configuration_of_the_pods():
    documents = support.rendered(SCRAM)
    (pod,) = support.of_kind(documents, "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    commands = [container["command"] + container["args"] for container in pod["spec"]["containers"]]
    assert commands == [
        ["/steward", "config", "check"],
        ["/steward", "state", "list", "--limit", "1", "--timeout-ms", "30000"],
    ]
    serving = support.main_container(documents)
    for container in pod["spec"]["containers"]:
        assert container["env"] == serving["env"]
        assert container["volumeMounts"] == serving["volumeMounts"]
        assert container["image"] == serving["image"]


def test_helm_test_can_be_limited_to_one_partition():
    (pod,) = support.of_kind(support.rendered(values_file("tight_probes")), "Pod")
    assert pod["spec"]["containers"][1]["args"][-2:] == ["--partition", "0"]


# ----------------------------------------------------------------------------------------------------------- notes


def notes(*settings):
    arguments = ["install", "prod", support.CHART, "--namespace", "catalogue", "--dry-run=client"]
    for setting in settings:
        arguments += ["--set", setting]
    return support.helm(*arguments).split("NOTES:")[1]


def test_the_notes_name_commands_that_can_be_pasted():
    text = notes()
    assert "kubectl rollout status statefulset/prod-steward --namespace catalogue" in text
    assert "helm test prod --namespace catalogue --logs" in text
    assert "TCP ports 9092." in text
    assert "Note:" not in text


def test_the_notes_warn_about_values_that_are_allowed_but_risky():
    assert "those beyond stand by" in notes("topicPartitions=2")
    assert "no pod leaves the group" in notes("config.kafka.static_membership=true", "autoscaling.hpa.enabled=true")
    assert "nothing checks" in notes("autoscaling.keda.enabled=true")
    assert "there is no memory limit" in notes("resources.limits.memory=null")
