{{/* The selector of this release's lines in Loki. */}}
{{- define "steward.logSelector" -}}
{{- with .Values.monitoring.selector -}}
{{- tpl . $ -}}
{{- else -}}
{{- printf "{namespace=%q, app=%q, release=%q}" .Release.Namespace (include "steward.name" .) .Release.Name -}}
{{- end -}}
{{- end -}}

{{/* Selects the pods whose log is shipped: those that serve. */}}
{{- define "steward.podSelector" -}}
{{- $parts := list -}}
{{- range $key, $value := include "steward.selectorLabels" . | fromYaml -}}
{{- $parts = append $parts (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- join "," $parts -}}
{{- end -}}

{{/* A file of the chart with each @NAME@ filled in. Takes (dict "root" $ "file" "files/..." "filled" {NAME: text}). */}}
{{- define "steward.filledFile" -}}
{{- $text := .root.Files.Get .file -}}
{{- if not $text }}{{ fail (printf "%s is not in the chart" .file) }}{{ end -}}
{{- range $name, $value := .filled }}{{ $text = replace (printf "@%s@" $name) $value $text }}{{ end -}}
{{- $text -}}
{{- end -}}

{{/* A percentage of a number of bytes. Takes (list bytes percent). */}}
{{- define "steward.percentOf" -}}
{{- div (mul (index . 0 | int64) (index . 1 | int64)) 100 -}}
{{- end -}}

{{/* The rules, with the labels of the release and the URLs of the runbook. */}}
{{- define "steward.lokiRules" -}}
{{- $root := . -}}
{{- $settings := .Values.monitoring.rules -}}
{{- $limits := $settings.thresholds -}}
{{- $disabled := $settings.disabled -}}
{{- $memory := dig "limits" "memory" "" .Values.resources -}}
{{- if not $memory }}{{ $disabled = append $disabled "StewardMemoryNearLimit" }}{{ $memory = "0" }}{{ end -}}
{{- $filled := dict
  "selector" (include "steward.logSelector" .)
  "max_starts" (int64 $limits.startsPer30Minutes | toString)
  "max_age_s" (int64 $limits.oldestAgeSeconds | toString)
  "max_rejected_share" (printf "%v" $limits.rejectedShare)
  "max_recovery_s" (int64 $limits.recoverySeconds | toString)
  "max_aborted" (int64 $limits.abortedPer10Minutes | toString)
  "max_memory_bytes" (include "steward.percentOf" (list (include "steward.bytes" $memory) $limits.memoryPercent))
  "max_state_bytes" (include "steward.percentOf" (list (include "steward.maxStateBytes" .) $limits.statePercent)) -}}
{{- $groups := list -}}
{{- range $group := (include "steward.filledFile" (dict "root" . "file" "files/loki-rules.yaml" "filled" $filled) | fromYaml).groups -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- if not (has (default "" $rule.alert) $disabled) -}}
{{- $labels := merge (dict) $settings.ruleLabels (default dict $rule.labels) (dict "namespace" $root.Release.Namespace "release" $root.Release.Name) -}}
{{- $completed := merge (dict "labels" $labels) $rule -}}
{{- if and $rule.alert $root.Values.monitoring.runbookUrl -}}
{{- $address := printf "%s#%s" $root.Values.monitoring.runbookUrl (lower $rule.alert) -}}
{{- $_ := set $completed "annotations" (merge (dict "runbook_url" $address) $rule.annotations) -}}
{{- end -}}
{{- $rules = append $rules $completed -}}
{{- end -}}
{{- end -}}
{{- if $rules }}{{ $groups = append $groups (merge (dict "rules" $rules) $group) }}{{ end -}}
{{- end -}}
{{- dict "groups" $groups | toYaml -}}
{{- end -}}

{{- define "steward.dashboard" -}}
{{- $about := printf "%s/%s" .Release.Namespace .Release.Name -}}
{{- $filled := dict
  "selector" (include "steward.logSelector" . | toJson | trimPrefix "\"" | trimSuffix "\"")
  "uid" (printf "steward-%s" ($about | sha256sum | trunc 12))
  "title" (printf "steward / %s / %s" .Release.Namespace .Release.Name) -}}
{{- include "steward.filledFile" (dict "root" . "file" "files/dashboard.json" "filled" $filled) -}}
{{- end -}}

{{/* The values that both shippers need, as JSON strings, which Alloy and YAML both accept. */}}
{{- define "steward.shipping" -}}
{{- dict
  "namespace" (toJson .Release.Namespace)
  "app" (include "steward.name" . | toJson)
  "release" (toJson .Release.Name)
  "pod_selector" (include "steward.podSelector" . | toJson)
  "field_selector" (printf "metadata.namespace=%s" .Release.Namespace | toJson)
  "endpoint" (toJson .Values.monitoring.loki.url)
  "push_url" (printf "%s/loki/api/v1/push" (trimSuffix "/" .Values.monitoring.loki.url) | toJson)
  "tenant" (toJson .Values.monitoring.loki.tenant) | toJson -}}
{{- end -}}

{{- define "steward.alloy" -}}
{{- include "steward.filledFile" (dict "root" . "file" "files/steward.alloy" "filled" (include "steward.shipping" . | fromJson)) -}}
{{- end -}}

{{- define "steward.vector" -}}
{{- $filled := include "steward.shipping" . | fromJson -}}
{{- if not .Values.monitoring.loki.tenant }}{{ $_ := set $filled "tenant" "null" }}{{ end -}}
{{- include "steward.filledFile" (dict "root" . "file" "files/vector.yaml" "filled" $filled) -}}
{{- end -}}
