{{/*
Checks that a schema cannot express, because they compare two values. Each message names the values and what to do. All
problems are reported at once.
*/}}
{{- define "steward.validate" -}}
{{- $v := .Values -}}
{{- $problems := list -}}

{{- $drainMs := include "steward.drainTimeoutMs" . | int64 -}}
{{- $graceMs := mul (include "steward.terminationGracePeriodSeconds" . | int64) 1000 -}}
{{- if le $graceMs $drainMs -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds (%d ms) is not above config.shutdown.drain_timeout_ms (%d): pods would be killed while they drain; raise it, or remove it" $graceMs $drainMs) -}}
{{- end -}}

{{- $settleMs := include "steward.readySettleMs" . | int64 -}}
{{- if le (mul (int64 $v.minReadySeconds) 1000) $settleMs -}}
{{- $problems = append $problems (printf "minReadySeconds (%d) is not above config.health.ready_settle_ms (%d): a rollout would continue between two rebalances; raise it" (int64 $v.minReadySeconds) $settleMs) -}}
{{- end -}}

{{- range $kind := list "hpa" "keda" -}}
{{- $scaler := get $v.autoscaling $kind -}}
{{- if $scaler.enabled -}}
{{- if gt (int64 $scaler.minReplicas) (int64 $scaler.maxReplicas) -}}
{{- $problems = append $problems (printf "autoscaling.%s.minReplicas (%d) is above its maxReplicas (%d)" $kind (int64 $scaler.minReplicas) (int64 $scaler.maxReplicas)) -}}
{{- end -}}
{{- if and $v.topicPartitions (gt (int64 $scaler.maxReplicas) (int64 $v.topicPartitions)) -}}
{{- $problems = append $problems (printf "autoscaling.%s.maxReplicas (%d) is above topicPartitions (%d): pods beyond the partitions do nothing; lower it" $kind (int64 $scaler.maxReplicas) (int64 $v.topicPartitions)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.autoscaling.hpa.enabled (not (dig "requests" "cpu" "" $v.resources)) -}}
{{- $problems = append $problems "autoscaling.hpa measures CPU against resources.requests.cpu, which is not set; set it" -}}
{{- end -}}

{{- $memory := dig "limits" "memory" "" $v.resources -}}
{{- if $memory -}}
{{- $limit := include "steward.bytes" $memory | int64 -}}
{{- $needed := include "steward.memoryBytes" . | int64 -}}
{{- if lt $limit $needed -}}
{{- $problems = append $problems (printf "resources.limits.memory (%v) is below the %d bytes that config.limits allow the process to use: the kernel would kill it, without a log line; raise it, or lower config.limits.max_state_bytes" $memory $needed) -}}
{{- end -}}
{{- end -}}

{{- $security := default dict $v.config.kafka.security -}}
{{- $protocol := default "plaintext" $security.protocol -}}
{{- $mechanism := default "" $security.sasl_mechanism -}}
{{- $hasSasl := hasPrefix "sasl_" $protocol -}}
{{- $hasTls := hasSuffix "ssl" $protocol -}}
{{- $hasPassword := and $hasSasl (ne $mechanism "oauthbearer") -}}
{{- $files := include "steward.credentialFiles" . | fromJson -}}
{{- range $key, $path := $files -}}
{{- if hasKey $security $key -}}
{{- $problems = append $problems (printf "config.kafka.security.%s is set, and `credentials` provide it too; remove one of the two" $key) -}}
{{- end -}}
{{- end -}}
{{- $log := default dict $v.config.log -}}
{{- $hashes := eq (default "plain" $log.keys) "hashed" -}}
{{- $hashFile := or $log.key_hash_secret_file (include "steward.logKeysFile" .) -}}
{{- if and $log.key_hash_secret_file (include "steward.logKeysFile" .) -}}
{{- $problems = append $problems "config.log.key_hash_secret_file is set, and credentials.logKeys provides it too; remove one of the two" -}}
{{- end -}}
{{- if and $hashes (not $hashFile) -}}
{{- $problems = append $problems "config.log.keys is hashed, which needs a secret; set credentials.logKeys.secretName" -}}
{{- end -}}
{{- if and $hashFile (not $hashes) -}}
{{- $problems = append $problems "there is a secret to hash keys with, but config.log.keys is not hashed; set it, or remove the secret" -}}
{{- end -}}
{{- if and $v.credentials.sasl.secretName (not $hasPassword) -}}
{{- $problems = append $problems "credentials.sasl is set, but config.kafka.security needs no user name and password; set its protocol (sasl_ssl) and sasl_mechanism (plain, scram-sha-256, scram-sha-512), or remove it" -}}
{{- end -}}
{{- if and (hasKey $files "oauth_token_file") (ne $mechanism "oauthbearer") -}}
{{- $problems = append $problems "credentials.oauth is set, but config.kafka.security.sasl_mechanism is not oauthbearer; set it, or remove credentials.oauth" -}}
{{- end -}}
{{- if and (or (hasKey $files "ca_file") (hasKey $files "key_file")) (not $hasTls) -}}
{{- $problems = append $problems (printf "credentials.ca or credentials.client is set, but config.kafka.security.protocol is %s; set ssl or sasl_ssl, or remove it" $protocol) -}}
{{- end -}}
{{- $variables := list -}}
{{- range $v.extraEnv }}{{ $variables = append $variables .name }}{{ end -}}
{{- if $hasPassword -}}
{{- if not (or $v.credentials.sasl.secretName $security.password_file (has "STEWARD__KAFKA__SECURITY__PASSWORD_FILE" $variables) (has "STEWARD__KAFKA__SECURITY__PASSWORD" $variables) $v.extraEnvFrom) -}}
{{- $problems = append $problems (printf "config.kafka.security.sasl_mechanism %s needs a password; set credentials.sasl.secretName" $mechanism) -}}
{{- end -}}
{{- if not (or $security.username (and $v.credentials.sasl.secretName $v.credentials.sasl.usernameKey) (has "STEWARD__KAFKA__SECURITY__USERNAME" $variables) $v.extraEnvFrom) -}}
{{- $problems = append $problems (printf "config.kafka.security.sasl_mechanism %s needs a user name; set config.kafka.security.username or credentials.sasl.usernameKey" $mechanism) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $mechanism "oauthbearer") (not (or (hasKey $files "oauth_token_file") $security.oauth_token_file (has "STEWARD__KAFKA__SECURITY__OAUTH_TOKEN_FILE" $variables) $v.extraEnvFrom)) -}}
{{- $problems = append $problems "config.kafka.security.sasl_mechanism oauthbearer needs a token; set credentials.oauth.secretName or credentials.oauth.audience" -}}
{{- end -}}
{{- if and $v.autoscaling.keda.enabled (or $hasSasl (hasKey $files "key_file")) (not $v.autoscaling.keda.authenticationRef.name) -}}
{{- $problems = append $problems (printf "autoscaling.keda must log in at the brokers too (%s); set autoscaling.keda.authenticationRef.name to a TriggerAuthentication" $protocol) -}}
{{- end -}}

{{- range $variables -}}
{{- if has . (list "POD_NAME" "STEWARD_CONFIG" "STEWARD__HEALTH__FILE") -}}
{{- $problems = append $problems (printf "extraEnv: %s is set by the chart; remove it" .) -}}
{{- end -}}
{{- end -}}
{{- if gt (len (printf "%s-%s%s-999" (default "steward" $v.config.kafka.group_id) $v.instanceNamePrefix (include "steward.fullname" .))) 249 -}}
{{- $problems = append $problems "config.kafka.group_id, instanceNamePrefix and the pod's name are more than 249 characters together; shorten one of them" -}}
{{- end -}}

{{- if contains "/loki/api/" $v.monitoring.loki.url -}}
{{- $problems = append $problems (printf "monitoring.loki.url (%s) has the path of Loki's API, which the shippers add; remove it" $v.monitoring.loki.url) -}}
{{- end -}}
{{- $log := default dict $v.config.log -}}
{{- if or $v.monitoring.rules.enabled $v.monitoring.dashboard.enabled -}}
{{- if eq (default "auto" $log.format) "text" -}}
{{- $problems = append $problems "monitoring reads JSON lines, but config.log.format is text; set json, or remove it" -}}
{{- end -}}
{{- if and (regexMatch "^ *(error|warn) *(,|$)" (default "info" $log.level | lower)) (not (contains "steward" (default "" $log.level))) -}}
{{- $problems = append $problems (printf "monitoring needs `stats`, a line of level INFO, but config.log.level is %s; set info, or add `,steward::health=info`" $log.level) -}}
{{- end -}}
{{- $statsMs := include "steward.statsIntervalMs" . | int64 -}}
{{- if gt $statsMs 60000 -}}
{{- $problems = append $problems (printf "monitoring reads the last two minutes, but config.log.stats_interval_ms is %d; set 60000 or less" $statsMs) -}}
{{- end -}}
{{- end -}}

{{- if $problems }}{{ fail (printf "\n- %s\n" (join "\n- " $problems)) }}{{ end -}}
{{- end -}}
