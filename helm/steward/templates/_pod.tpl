{{- define "steward.heartbeatFolder" -}}/run/steward{{- end -}}
{{- define "steward.heartbeatFile" -}}{{ include "steward.heartbeatFolder" . }}/heartbeat{{- end -}}

{{/* Environment of every container that runs steward. */}}
{{- define "steward.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if .Values.instanceNamePrefix }}
- name: STEWARD__KAFKA__INSTANCE_NAME
  value: {{ printf "%s$(POD_NAME)" .Values.instanceNamePrefix | quote }}
{{- end }}
- name: STEWARD_CONFIG
  value: /etc/steward/config.toml
{{- /* In the pod, not in the ConfigMap: so a running pod and its probes always have the same revision of the path. */}}
- name: STEWARD__HEALTH__FILE
  value: {{ include "steward.heartbeatFile" . }}
{{- with .Values.credentials.sasl }}
{{- if and .secretName .usernameKey }}
- name: STEWARD__KAFKA__SECURITY__USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ tpl .secretName $ }}
      key: {{ .usernameKey }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{- define "steward.volumeMounts" -}}
- name: config
  mountPath: /etc/steward
  readOnly: true
- name: heartbeat
  mountPath: {{ include "steward.heartbeatFolder" . }}
{{- if include "steward.hasCredentials" . }}
- name: credentials
  mountPath: {{ include "steward.credentialsFolder" . }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{- define "steward.volumes" -}}
- name: config
  configMap:
    name: {{ include "steward.fullname" . }}
- name: heartbeat
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- if include "steward.hasCredentials" . }}
- name: credentials
  projected:
    defaultMode: 0440
    sources:
      {{- with .Values.credentials.sasl }}
      {{- if .secretName }}
      - secret:
          name: {{ tpl .secretName $ }}
          items:
            - {key: {{ .passwordKey | quote }}, path: password}
      {{- end }}
      {{- end }}
      {{- with .Values.credentials.oauth }}
      {{- if .secretName }}
      - secret:
          name: {{ tpl .secretName $ }}
          items:
            - {key: {{ .tokenKey | quote }}, path: token}
      {{- else if .audience }}
      - serviceAccountToken:
          audience: {{ .audience | quote }}
          expirationSeconds: {{ int64 .expirationSeconds }}
          path: token
      {{- end }}
      {{- end }}
      {{- with .Values.credentials.ca }}
      {{- if .secretName }}
      - secret:
          name: {{ tpl .secretName $ }}
          items:
            - {key: {{ .key | quote }}, path: ca.crt}
      {{- else if .configMapName }}
      - configMap:
          name: {{ tpl .configMapName $ }}
          items:
            - {key: {{ .key | quote }}, path: ca.crt}
      {{- end }}
      {{- end }}
      {{- with .Values.credentials.client }}
      {{- if .secretName }}
      - secret:
          name: {{ tpl .secretName $ }}
          items:
            - {key: {{ .certificateKey | quote }}, path: tls.crt}
            - {key: {{ .keyKey | quote }}, path: tls.key}
            {{- if .keyPasswordKey }}
            - {key: {{ .keyPasswordKey | quote }}, path: key-password}
            {{- end }}
      {{- end }}
      {{- end }}
      {{- with .Values.credentials.logKeys }}
      {{- if .secretName }}
      - secret:
          name: {{ tpl .secretName $ }}
          items:
            - {key: {{ .key | quote }}, path: log-keys}
      {{- end }}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{/* Security context and placement of both kinds of pod. */}}
{{- define "steward.podBasics" -}}
serviceAccountName: {{ include "steward.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Soft by default: a pod that waits for a better node serves no partition. */}}
{{- define "steward.topologySpreadConstraints" -}}
{{- $selector := dict "matchLabels" (include "steward.selectorLabels" . | fromYaml) -}}
{{- $constraints := .Values.topologySpreadConstraints -}}
{{- if kindIs "invalid" $constraints -}}
{{- $constraints = list
  (dict "maxSkew" 1 "topologyKey" "topology.kubernetes.io/zone" "whenUnsatisfiable" "ScheduleAnyway")
  (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway") -}}
{{- end -}}
{{- $completed := list -}}
{{- range $constraints -}}
{{- $completed = append $completed (merge (dict) . (dict "labelSelector" $selector)) -}}
{{- end -}}
{{- if $completed }}{{ toYaml $completed }}{{ end -}}
{{- end -}}
