"""Mistakes that are refused before anything is installed. Each says what helm's answer has to name."""

import pytest
import yaml

import support

TLS = "config: {kafka: {security: {protocol: ssl}}}"
SCRAM = "config: {kafka: {security: {protocol: sasl_ssl, sasl_mechanism: scram-sha-512, username: a}}}"

# (what is wrong, values, what the answer names)
BY_SCHEMA = [
    ("a key at the top that nobody knows", "replicas: 3", "replicas"),
    ("a key of the configuration that nobody knows", "config: {kafka: {gruop_id: a}}", "gruop_id"),
    ("a section that nobody knows", "config: {limit: {}}", "limit"),
    ("a key in the wrong section", "config: {limits: {drain_timeout_ms: 1}}", "drain_timeout_ms"),
    ("a password in the values", "config: {kafka: {security: {password: hush}}}", "password"),
    ("a key's password in the values", "config: {kafka: {security: {key_password: hush}}}", "key_password"),
    ("the same instance name for all pods", "config: {kafka: {instance_name: a}}", "instance_name"),
    ("another heartbeat file", "config: {health: {file: /tmp/a}}", "file"),
    ("a number below its range", "config: {kafka: {session_timeout_ms: 10}}", "session_timeout_ms"),
    ("a number above its range", "config: {limits: {max_payload_bytes: 104857601}}", "max_payload_bytes"),
    ("a text for a number", 'config: {limits: {max_batch_records: "100"}}', "max_batch_records"),
    ("a fraction for a number", "config: {limits: {max_batch_records: 1.5}}", "max_batch_records"),
    ("a text for a flag", 'config: {kafka: {create_topics: "yes"}}', "create_topics"),
    ("a word that is none", "config: {recovery: {on_expired: skip}}", "on_expired"),
    ("an address without a port", "config: {kafka: {bootstrap_servers: kafka}}", "bootstrap_servers"),
    ("an address that is a URL", 'config: {kafka: {bootstrap_servers: "http://kafka:9092"}}', "bootstrap_servers"),
    ("a topic that Kafka does not take", "config: {kafka: {topic: 'a b'}}", "topic"),
    ("no topic", "config: {kafka: {topic: null}}", "topic"),
    ("a property that would break a promise", "config: {kafka: {properties: {isolation.level: a}}}", "isolation.level"),
    ("a property that nobody knows", "config: {kafka: {properties: {fetch.wait.max: 1}}}", "fetch.wait.max"),
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
    ("a trigger's metadata that is no text", "autoscaling: {keda: {metadata: {allowIdleConsumers: true}}}", "metadata"),
    ("both ways to tell a budget", "podDisruptionBudget: {minAvailable: 1, maxUnavailable: 1}", "podDisruptionBudget"),
    ("a percentage beyond all", "podDisruptionBudget: {maxUnavailable: 150%}", "maxUnavailable"),
    ("half a pod", "replicaCount: 1.5", "replicaCount"),
    ("no partitions", "topicPartitions: 0", "topicPartitions"),
    ("root", "podSecurityContext: {runAsUser: 0}", "runAsUser"),
    ("a privileged container", "securityContext: {privileged: true}", "privileged"),
    ("a way to privileges", "securityContext: {allowPrivilegeEscalation: true}", "allowPrivilegeEscalation"),
    ("a tag and a digest in one", "image: {tag: 'a@sha256:b'}", "tag"),
    ("half a digest", "image: {digest: abc}", "digest"),
    ("a quantity that is none", "resources: {limits: {memory: 2 GB}}", "memory"),
    ("a port that is none", "networkPolicy: {kafka: {ports: [kafka]}}", "ports"),
    ("a label that is no text", "labels: {release: 1}", "labels"),
    ("a variable with two values", "extraEnv: [{name: A, value: b, valueFrom: {}}]", "extraEnv"),
    ("a variable that is no text", "extraEnv: [{name: A, value: 1}]", "extraEnv"),
    ("a strategy of Deployments", "updateStrategy: {type: Recreate}", "type"),
    ("an alert that nobody knows", "monitoring: {rules: {disabled: [StewardStalls]}}", "disabled"),
    ("a threshold that nobody knows", "monitoring: {rules: {thresholds: {lagSeconds: 60}}}", "lagSeconds"),
    ("a share in percent", "monitoring: {rules: {thresholds: {rejectedShare: 5}}}", "rejectedShare"),
    ("a selector without its braces", "monitoring: {selector: 'app=\"steward\"'}", "selector"),
    ("a runbook's address with a section", "monitoring: {runbookUrl: 'https://a/b#c'}", "runbookUrl"),
    ("Loki without a scheme", "monitoring: {loki: {url: 'loki:3100'}}", "url"),
    ("a label of a rule that is no text", "monitoring: {rules: {ruleLabels: {level: 1}}}", "ruleLabels"),
    ("metrics, which there are none of", "monitoring: {serviceMonitor: {enabled: true}}", "serviceMonitor"),
    ("a startup probe that has a path", "probes: {startup: {httpGet: {path: /}}}", "httpGet"),
]

# What compares two values.
BY_TEMPLATE = [
    (
        "a grace period that cuts the drain",
        "{terminationGracePeriodSeconds: 25}",
        ["terminationGracePeriodSeconds (25000 ms)", "drain_timeout_ms (25000)"],
    ),
    (
        "a rollout that goes on between two rebalances",
        "{minReadySeconds: 5}",
        ["minReadySeconds (5)", "ready_settle_ms (5000)"],
    ),
    (
        "memory that the limits do not fit into",
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
    ("a password that nobody asks for", "credentials: {sasl: {secretName: a}}", ["credentials.sasl is given"]),
    ("a token that nobody asks for", "credentials: {oauth: {audience: a}}", ["credentials.oauth is given"]),
    ("keys to be hashed with nothing", "config: {log: {keys: hashed}}", ["credentials.logKeys.secretName"]),
    ("a secret for keys that nobody hashes", "credentials: {logKeys: {secretName: a}}", ["config.log.keys is not hashed"]),
    (
        "two secrets for keys",
        "{config: {log: {keys: hashed, key_hash_secret_file: /a}}, credentials: {logKeys: {secretName: a}}}",
        ["remove one of the two"],
    ),
    ("authorities that nobody asks for", "credentials: {ca: {secretName: a}}", ["protocol is plaintext"]),
    (
        "two places for one file",
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
        "rules over lines that are no JSON",
        "{monitoring: {rules: {enabled: true}}, config: {log: {format: text}}}",
        ["config.log.format is text"],
    ),
    (
        "a dashboard over numbers that are not written",
        "{monitoring: {dashboard: {enabled: true}}, config: {log: {level: 'warn,librdkafka=info'}}}",
        ["config.log.level is warn", "steward::health=info"],
    ),
    (
        "rules over numbers that come too seldom",
        "{monitoring: {rules: {enabled: true}}, config: {log: {stats_interval_ms: 300000}}}",
        ["stats_interval_ms is 300000"],
    ),
    (
        "the whole address of Loki's interface",
        "monitoring: {loki: {url: 'http://loki/loki/api/v1/push'}}",
        ["monitoring.loki.url", "which the shippers add"],
    ),
    (
        "several mistakes, told at once",
        "{minReadySeconds: 1, terminationGracePeriodSeconds: 1}",
        ["minReadySeconds", "terminationGracePeriodSeconds"],
    ),
]


def refusal(values, folder):
    """helm's answer to values that it must not take."""
    file = folder / "values.yaml"
    file.write_text(values)
    assert isinstance(yaml.safe_load(values), dict)
    with pytest.raises(support.Refused) as refused:
        support.helm("template", "prod", support.CHART, "--values", file)
    return str(refused.value)


@pytest.mark.parametrize("values, named", [row[1:] for row in BY_SCHEMA], ids=[row[0] for row in BY_SCHEMA])
def test_the_schema_refuses(values, named, tmp_path):
    answer = refusal(values, tmp_path)
    assert "values don't meet the specifications of the schema" in answer
    assert named in answer


@pytest.mark.parametrize("values, named", [row[1:] for row in BY_TEMPLATE], ids=[row[0] for row in BY_TEMPLATE])
def test_the_templates_refuse(values, named, tmp_path):
    answer = refusal(values, tmp_path)
    assert "execution error" in answer
    for part in named:
        assert part in answer
