{{/* The files of the credentials, by key of [kafka.security]; all are in one projected volume. */}}
{{- define "steward.credentialsFolder" -}}/etc/steward-credentials{{- end -}}

{{- define "steward.credentialFiles" -}}
{{- $files := dict -}}
{{- $folder := include "steward.credentialsFolder" . -}}
{{- with .Values.credentials -}}
{{- if .sasl.secretName }}{{ $_ := set $files "password_file" (printf "%s/password" $folder) }}{{ end -}}
{{- if or .oauth.secretName .oauth.audience }}{{ $_ := set $files "oauth_token_file" (printf "%s/token" $folder) }}{{ end -}}
{{- if or .ca.secretName .ca.configMapName }}{{ $_ := set $files "ca_file" (printf "%s/ca.crt" $folder) }}{{ end -}}
{{- if .client.secretName -}}
{{- $_ := set $files "certificate_file" (printf "%s/tls.crt" $folder) -}}
{{- $_ := set $files "key_file" (printf "%s/tls.key" $folder) -}}
{{- if .client.keyPasswordKey }}{{ $_ := set $files "key_password_file" (printf "%s/key-password" $folder) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- define "steward.logKeysFile" -}}
{{- if .Values.credentials.logKeys.secretName }}{{ include "steward.credentialsFolder" . }}/log-keys{{ end -}}
{{- end -}}

{{/* Not empty if there is a file to mount. */}}
{{- define "steward.hasCredentials" -}}
{{- if or (include "steward.credentialFiles" . | fromJson) (include "steward.logKeysFile" .) }}yes{{ end -}}
{{- end -}}

{{/*
A TOML value. Numbers from a values file arrive as floating point, and would be written as 1.073741824e+09.
A JSON string is a TOML basic string.
*/}}
{{- define "steward.tomlValue" -}}
{{- if kindIs "string" . -}}
{{- toJson . -}}
{{- else if kindIs "bool" . -}}
{{- . -}}
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ printf "%v" . }}{{ end -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* `key = value` for everything except tables and nulls. Takes (dict "values" {...} "quoteKeys" "yes" or ""). */}}
{{- define "steward.tomlKeys" -}}
{{- $quoteKeys := .quoteKeys -}}
{{- range $key, $value := .values -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ if $quoteKeys }}{{ toJson $key }}{{ else }}{{ $key }}{{ end }} = {{ include "steward.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* config.toml */}}
{{- define "steward.toml" -}}
# Written by the Helm chart. The pod's variables override keys: kafka.instance_name or POD_NAME, health.file, and a user
# name from a Secret.
{{- $kafka := .Values.config.kafka }}

[kafka]
{{- include "steward.tomlKeys" (dict "values" $kafka) }}
{{- $security := merge (dict) (include "steward.credentialFiles" . | fromJson) (default dict $kafka.security) }}
{{- if $security }}

[kafka.security]
{{- include "steward.tomlKeys" (dict "values" $security) }}
{{- end }}
{{- with $kafka.properties }}

[kafka.properties]
{{- include "steward.tomlKeys" (dict "values" . "quoteKeys" "yes") }}
{{- end }}
{{- $sections := omit .Values.config "kafka" }}
{{- with include "steward.logKeysFile" . }}
{{- $_ := set $sections "log" (merge (dict "key_hash_secret_file" .) (default dict $sections.log)) }}
{{- end }}
{{- range $section, $values := $sections }}
{{- if $values }}

[{{ $section }}]
{{- include "steward.tomlKeys" (dict "values" $values) }}
{{- end }}
{{- end }}
{{- end -}}
