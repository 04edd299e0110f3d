"""Mistakes that are refused before anything is installed, each with what helm's message must contain."""

import pytest
import yaml

import support

TLS = "config: {kafka: {security: {protocol: ssl}}}"
SCRAM = "config: {kafka: {security: {protocol: sasl_ssl, sasl_mechanism: scram-sha-512, username: a}}}"

# (mistake, values, part of the message)
BY_SCHEMA = [
    ("an unknown key at the top", "replicas: 3", "replicas"),
    ("an unknown key of the configuration", "config: {kafka: {gruop_id: a}}", "gruop_id"),
    ("an unknown section", "config: {limit: {}}", "limit"),
    ("a key in the wrong section", "config: {limits: {drain_timeout_ms: 1}}", "drain_timeout_ms"),
    ("a password in the values", "config: {kafka: {security: {password: hush}}}", "password"),
    ("a key's password in the values", "config: {kafka: {security: {key_password: hush}}}", "key_password"),
    ("the same instance name for all pods", "config: {kafka: {instance_name: a}}", "instance_name"),
    ("another heartbeat file", "config: {health: {file: /tmp/a}}", "file"),
    ("a number below its range", "config: {kafka: {session_timeout_ms: 10}}", "session_timeout_ms"),
    ("a number above its range", "config: {limits: {max_payload_bytes: 104857601}}", "max_payload_bytes"),
    ("a string for a number", 'config: {limits: {max_batch_records: "100"}}', "max_batch_records"),
    ("a fraction for a number", "config: {limits: {max_batch_records: 1.5}}", "max_batch_records"),
    ("a string for a flag", 'config: {kafka: {create_topics: "yes"}}', "create_topics"),
    ("an unknown word", "config: {recovery: {on_expired: skip}}", "on_expired"),
    ("an address without a port", "config: {kafka: {bootstrap_servers: kafka}}", "bootstrap_servers"),
    ("an address that is a URL", 'config: {kafka: {bootstrap_servers: "http://kafka:9092"}}', "bootstrap_servers"),
    ("a topic that Kafka does not accept", "config: {kafka: {topic: 'a b'}}", "topic"),
    ("no topic", "config: {kafka: {topic: null}}", "topic"),
    ("a property that would break a guarantee", "config: {kafka: {properties: {isolation.level: a}}}", "isolation.level"),
    ("an unknown property", "config: {kafka: {properties: {fetch.wait.max: 1}}}", "fetch.wait.max"),
    ("Kafka's own word for TLS", "config: {kafka: {security: {protocol: SASL_SSL}}}", "protocol"),
    ("SASL without a mechanism", "config: {kafka: {security: {protocol: sasl_ssl}}}", "sasl_mechanism"),
    ("a mechanism without SASL", "config: {kafka: {security: {sasl_mechanism: plain}}}", "sasl_mechanism"),
    ("a user name without SASL", "config: {kafka: {security: {protocol: ssl, username: a}}}", "username"),
    ("authorities without TLS", "config: {kafka: {security: {ca_file: /a}}}", "ca_file"),
    (
        "a certificate without its key",
        "config: {kafka: {security: {protocol: ssl, certificate_file: /a}}}",
        "key_file",
    ),
    (
        "a user name for OAUTHBEARER",
        "config: {kafka: {security: {protocol: sasl_ssl, sasl_mechanism: oauthbearer, username: a}}}",
        "username",
    ),
    ("two sources of a token", "credentials: {oauth: {secretName: a, audience: b}}", "oauth"),
    ("two sources of authorities", "credentials: {ca: {secretName: a, configMapName: b}}", "ca"),
    ("the password where its Secret's name belongs", "credentials: {sasl: {secretName: 'My Pass!'}}", "secretName"),
    ("the password itself", "credentials: {sasl: {password: hush}}", "password"),
    ("both autoscalers", "autoscaling: {hpa: {enabled: true}, keda: {enabled: true}}", "autoscaling"),
    ("an autoscaler of the wrong level", "autoscaling: {enabled: true}", "enabled"),
    ("an autoscaler that ends at nothing", "autoscaling: {hpa: {minReplicas: 0}}", "minReplicas"),
    ("a trigger's metadata that is no string", "autoscaling: {keda: {metadata: {allowIdleConsumers: true}}}", "metadata"),
    ("both ways to set a budget", "podDisruptionBudget: {minAvailable: 1, maxUnavailable: 1}", "podDisruptionBudget"),
    ("a percentage above 100", "podDisruptionBudget: {maxUnavailable: 150%}", "maxUnavailable"),
    ("half a pod", "replicaCount: 1.5", "replicaCount"),
    ("no partitions", "topicPartitions: 0", "topicPartitions"),
    ("root", "podSecurityContext: {runAsUser: 0}", "runAsUser"),
    ("a privileged container", "securityContext: {privileged: true}", "privileged"),
    ("a way to privileges", "securityContext: {allowPrivilegeEscalation: true}", "allowPrivilegeEscalation"),
    ("a tag and a digest in one", "image: {tag: 'a@sha256:b'}", "tag"),
    ("half a digest", "image: {digest: abc}", "digest"),
    ("an invalid quantity", "resources: {limits: {memory: 2 GB}}", "memory"),
    ("an invalid port", "networkPolicy: {kafka: {ports: [kafka]}}", "ports"),
    ("a label that is no string", "labels: {release: 1}", "labels"),
    ("a variable with two values", "extraEnv: [{name: A, value: b, valueFrom: {}}]", "extraEnv"),
    ("a variable that is no string", "extraEnv: [{name: A, value: 1}]", "extraEnv"),
    ("a strategy of Deployments", "updateStrategy: {type: Recreate}", "type"),
    ("an unknown alert", "monitoring: {rules: {disabled: [StewardStalls]}}", "disabled"),
    ("an unknown threshold", "monitoring: {rules: {thresholds: {lagSeconds: 60}}}", "lagSeconds"),
    ("a share in percent", "monitoring: {rules: {thresholds: {rejectedShare: 5}}}", "rejectedShare"),
    ("a selector without its braces", "monitoring: {selector: 'app=\"steward\"'}", "selector"),
    ("a runbook's address with a section", "monitoring: {runbookUrl: 'https://a/b#c'}", "runbookUrl"),
    ("Loki without a scheme", "monitoring: {loki: {url: 'loki:3100'}}", "url"),
    ("a label of a rule that is no string", "monitoring: {rules: {ruleLabels: {level: 1}}}", "ruleLabels"),
    ("metrics, which do not exist", "monitoring: {serviceMonitor: {enabled: true}}", "serviceMonitor"),
    ("a startup probe that has a path", "probes: {startup: {httpGet: {path: /}}}", "httpGet"),
]

# Checks that compare two values.
BY_TEMPLATE = [
    (
        "a grace period that ends during the drain",
        "{terminationGracePeriodSeconds: 25}",
        ["terminationGracePeriodSeconds (25000 ms)", "drain_timeout_ms (25000)"],
    ),
    (
        "a rollout that continues between two rebalances",
        "{minReadySeconds: 5}",
        ["minReadySeconds (5)", "ready_settle_ms (5000)"],
    ),
    (
        "a memory limit below the sum of the limits",
        "config: {limits: {max_state_bytes: 4294967296}}",
        ["resources.limits.memory (2Gi)", "max_state_bytes"],
    ),
    (
        "more pods than partitions, by CPU",
        "{topicPartitions: 4, autoscaling: {hpa: {enabled: true}}}",
        ["autoscaling.hpa.maxReplicas (6)", "topicPartitions (4)"],
    ),
    (
        "more pods than partitions, by lag",
        "{topicPartitions: 4, autoscaling: {keda: {enabled: true}}}",
        ["autoscaling.keda.maxReplicas (6)", "topicPartitions (4)"],
    ),
    (
        "a minimum above the maximum",
        "autoscaling: {hpa: {enabled: true, minReplicas: 7}}",
        ["minReplicas (7)", "maxReplicas (6)"],
    ),
    (
        "CPU measured against nothing",
        "{autoscaling: {hpa: {enabled: true}}, resources: {requests: {cpu: null}}}",
        ["resources.requests.cpu"],
    ),
    ("SCRAM without a password", SCRAM, ["needs a password", "credentials.sasl.secretName"]),
    (
        "SCRAM without a user name",
        "{config: {kafka: {security: {protocol: sasl_ssl, sasl_mechanism: plain}}}, credentials: {sasl: {secretName: a}}}",
        ["needs a user name", "credentials.sasl.usernameKey"],
    ),
    (
        "OAUTHBEARER without a token",
        "config: {kafka: {security: {protocol: sasl_ssl, sasl_mechanism: oauthbearer}}}",
        ["needs a token"],
    ),
    ("a password that is not used", "credentials: {sasl: {secretName: a}}", ["credentials.sasl is set"]),
    ("a token that is not used", "credentials: {oauth: {audience: a}}", ["credentials.oauth is set"]),
    ("hashed keys without a secret", "config: {log: {keys: hashed}}", ["credentials.logKeys.secretName"]),
    ("a secret for keys that are not hashed", "credentials: {logKeys: {secretName: a}}", ["config.log.keys is not hashed"]),
    (
        "two secrets for keys",
        "{config: {log: {keys: hashed, key_hash_secret_file: /a}}, credentials: {logKeys: {secretName: a}}}",
        ["remove one of the two"],
    ),
    ("authorities that are not used", "credentials: {ca: {secretName: a}}", ["protocol is plaintext"]),
    (
        "two sources of one file",
        "{config: {kafka: {security: {protocol: ssl, ca_file: /a}}}, credentials: {ca: {secretName: a}}}",
        ["ca_file", "remove one of the two"],
    ),
    (
        "an autoscaler that cannot log in",
        "{config: {kafka: {security: {protocol: sasl_plaintext, sasl_mechanism: plain, username: a}}},"
        " credentials: {sasl: {secretName: a}}, autoscaling: {keda: {enabled: true}}}",
        ["authenticationRef.name"],
    ),
    ("a variable of the chart's own", "extraEnv: [{name: POD_NAME, value: a}]", ["POD_NAME is set by the chart"]),
    (
        "rules over lines that are not JSON",
        "{monitoring: {rules: {enabled: true}}, config: {log: {format: text}}}",
        ["config.log.format is text"],
    ),
    (
        "a dashboard over numbers that are not logged",
        "{monitoring: {dashboard: {enabled: true}}, config: {log: {level: 'warn,librdkafka=info'}}}",
        ["config.log.level is warn", "steward::health=info"],
    ),
    (
        "rules over numbers that are logged too seldom",
        "{monitoring: {rules: {enabled: true}}, config: {log: {stats_interval_ms: 300000}}}",
        ["stats_interval_ms is 300000"],
    ),
    (
        "the whole URL of Loki's API",
        "monitoring: {loki: {url: 'http://loki/loki/api/v1/push'}}",
        ["monitoring.loki.url", "which the shippers add"],
    ),
    (
        "several mistakes, reported at once",
        "{minReadySeconds: 1, terminationGracePeriodSeconds: 1}",
        ["minReadySeconds", "terminationGracePeriodSeconds"],
    ),
]


def refusal(values, folder):
    """helm's message for values that it must refuse."""
    file = folder / "values.yaml"
    file.write_text(values)
    assert isinstance(yaml.safe_load(values), dict)
    with pytest.raises(support.Refused) as refused:
        support.helm("template", "prod", support.CHART, "--values", file)
    return str(refused.value)


@pytest.mark.parametrize("values, named", [row[1:] for row in BY_SCHEMA], ids=[row[0] for row in BY_SCHEMA])
def test_the_schema_refuses(values, named, tmp_path):
    message = refusal(values, tmp_path)
    assert "values don't meet the specifications of the schema" in message
    assert named in message


@pytest.mark.parametrize("values, named", [row[1:] for row in BY_TEMPLATE], ids=[row[0] for row in BY_TEMPLATE])
def test_the_templates_refuse(values, named, tmp_path):
    message = refusal(values, tmp_path)
    assert "execution error" in message
    for part in named:
        assert part in message
