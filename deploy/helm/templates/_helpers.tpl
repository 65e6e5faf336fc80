{{- define "batch-receiver.labels" -}}
app.kubernetes.io/name: batch-receiver
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "batch-receiver.image" -}}
{{ required "image.repository: where the image is that deploy/Dockerfile builds" .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What all pods have in common. Call with a dict: root, name, secret (of files). */}}
{{- define "batch-receiver.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
volumes:
  - name: tmp
    emptyDir: {}
  - name: secrets
    secret:
      secretName: {{ required (printf "secrets.%s: the Secret whose keys are named like its settings" .name) .secret }}
      defaultMode: 0440
{{- end }}

{{- define "batch-receiver.container" -}}
image: {{ include "batch-receiver.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  - configMapRef: {name: {{ .root.Release.Name }}-settings}
  {{- if and .bucket .root.Values.secrets.bucket }}
  - secretRef: {name: {{ .root.Values.secrets.bucket }}}
  {{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: secrets, mountPath: /run/secrets, readOnly: true}
{{- end }}
