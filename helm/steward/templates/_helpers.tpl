{{- define "steward.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/*
At most 52 characters: a StatefulSet's pods carry `NAME-REVISION` as a label, and a revision has 10.
*/}}
{{- define "steward.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "steward.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "steward.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "steward.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "steward.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels of every pod of the release: the pods that serve, and the one of `helm test`. */}}
{{- define "steward.releaseLabels" -}}
app.kubernetes.io/name: {{ include "steward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Selects the pods that serve. A selector cannot be changed later, so it has only labels that never change. */}}
{{- define "steward.selectorLabels" -}}
{{ include "steward.releaseLabels" . }}
app.kubernetes.io/component: processor
{{- end -}}

{{/*
Labels of an object. Takes (dict "root" $ "component" "..." ) and lets the chart's own labels override
the values', so that no label breaks a selector.
*/}}
{{- define "steward.labels" -}}
{{- $root := .root -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "steward.name" $root)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/component" (default "processor" .component)
  "app.kubernetes.io/version" (default $root.Chart.AppVersion $root.Values.image.tag | trunc 63 | trimAll "-_.")
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_.") -}}
{{- merge $own (default dict .extra) $root.Values.labels | toYaml -}}
{{- end -}}

{{/* `  annotations:` with all annotations, or nothing if there are none. Takes (dict "root" $ "extra" {...}). */}}
{{- define "steward.annotations" -}}
{{- with merge (dict) (default dict .extra) .root.Values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end -}}
{{- end -}}

{{/*
Labels of a pod that serves. None of them has the chart's version: each change here replaces every pod.
*/}}
{{- define "steward.podLabels" -}}
{{- merge (include "steward.selectorLabels" . | fromYaml) .Values.podLabels .Values.labels | toYaml -}}
{{- end -}}

{{/* "true" if an autoscaler decides the number of pods, else "". */}}
{{- define "steward.isAutoscaled" -}}
{{- if or .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled -}}true{{- end -}}
{{- end -}}

{{/* Bytes of a Kubernetes quantity such as 2Gi, 1500M or 1073741824. */}}
{{- define "steward.bytes" -}}
{{- $text := toString . -}}
{{- if kindIs "float64" . }}{{ $text = printf "%.0f" . }}{{ end -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000
  "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- if not (hasKey $units $unit) }}{{ fail (printf "resources: %q is no quantity of memory that this chart can parse; write it as 2Gi or 2000M" $text) }}{{ end -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit | float64) | int64 -}}
{{- end -}}

{{/*
A number of the configuration: from the values, else steward's default. Takes (list $ "section" "key" default). A test
compares the defaults in this chart with config.toml.
*/}}
{{- define "steward.configNumber" -}}
{{- $section := get (index . 0).Values.config (index . 1) | default dict -}}
{{- if hasKey $section (index . 2) -}}
{{- get $section (index . 2) | int64 -}}
{{- else -}}
{{- index . 3 | int64 -}}
{{- end -}}
{{- end -}}

{{- define "steward.drainTimeoutMs" -}}{{- include "steward.configNumber" (list . "shutdown" "drain_timeout_ms" 25000) -}}{{- end -}}
{{- define "steward.topicWaitMs" -}}{{- include "steward.configNumber" (list . "kafka" "topic_wait_ms" 60000) -}}{{- end -}}
{{- define "steward.readySettleMs" -}}{{- include "steward.configNumber" (list . "health" "ready_settle_ms" 5000) -}}{{- end -}}
{{- define "steward.statsIntervalMs" -}}{{- include "steward.configNumber" (list . "log" "stats_interval_ms" 10000) -}}{{- end -}}
{{- define "steward.maxStateBytes" -}}{{- include "steward.configNumber" (list . "limits" "max_state_bytes" 1073741824) -}}{{- end -}}
{{- define "steward.maxInFlightBytes" -}}{{- include "steward.configNumber" (list . "limits" "max_in_flight_bytes" 50331648) -}}{{- end -}}
{{- define "steward.maxTransactionBytes" -}}{{- include "steward.configNumber" (list . "limits" "max_transaction_bytes" 33554432) -}}{{- end -}}
{{- define "steward.maxActiveEntities" -}}{{- include "steward.configNumber" (list . "limits" "max_active_entities" 200000) -}}{{- end -}}

{{/* Seconds, rounded up. */}}
{{- define "steward.seconds" -}}{{- div (add (int64 .) 999) 1000 -}}{{- end -}}

{{- define "steward.terminationGracePeriodSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "steward.seconds" (include "steward.drainTimeoutMs" .)) 10 -}}
{{- else -}}
{{- int64 .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/*
The heartbeat begins when the topics were checked, which may wait for the input and for absent brokers. If that takes too
long, the process ends by itself and logs the reason; a probe that fails sooner would only hide the reason.
*/}}
{{- define "steward.startupFailureThreshold" -}}
{{- $given := .Values.probes.startup.failureThreshold -}}
{{- if kindIs "invalid" $given -}}
{{- $period := int64 .Values.probes.startup.periodSeconds -}}
{{- div (add (include "steward.seconds" (include "steward.topicWaitMs" .)) 90 $period -1) $period -}}
{{- else -}}
{{- int64 $given -}}
{{- end -}}
{{- end -}}

{{/* The sum of the table in docs/operating.md, Memory. */}}
{{- define "steward.memoryBytes" -}}
{{- $inFlight := include "steward.maxInFlightBytes" . | int64 -}}
{{- $transaction := min (include "steward.maxTransactionBytes" . | int64) $inFlight -}}
{{- add
  (include "steward.maxStateBytes" . | int64)
  $inFlight
  (div $inFlight 8)
  (div $inFlight 5)
  (max (div (mul $transaction 3) 2) 67108864)
  12582912
  (mul (include "steward.maxActiveEntities" . | int64) 1300)
  50000000 -}}
{{- end -}}

{{/* The ports of kafka.bootstrap_servers and of networkPolicy.kafka.ports, each once, as a JSON list. */}}
{{- define "steward.kafkaPorts" -}}
{{- $ports := list -}}
{{- range splitList "," .Values.config.kafka.bootstrap_servers -}}
{{- $ports = append $ports (regexFind "[0-9]+$" (trim .) | int64) -}}
{{- end -}}
{{- range .Values.networkPolicy.kafka.ports }}{{ $ports = append $ports (int64 .) }}{{ end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}
