{{- define "ringway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "ringway.fullname" -}}
{{- $name := include "ringway.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ringway.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "ringway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ringway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ringway.rbacName" -}}
{{- default (include "ringway.fullname" .) .Values.rbac.nameOverride -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "ringway.labels" -}}
app.kubernetes.io/name: {{ include "ringway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- if .Values.deploymentTool }}
app.kubernetes.io/managed-by: {{ .Values.deploymentTool }}
{{- else }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}
product: aes
{{- end -}}

{{/* What Pods are found by. */}}
{{- define "ringway.selector" -}}
{{- with .Values.service.selector -}}
{{- toYaml . -}}
{{- else -}}
app.kubernetes.io/name: {{ include "ringway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- end -}}

{{/* Clients come to the nodes: there is no Service for them. */}}
{{- define "ringway.publishesNodes" -}}
{{- if not (or .Values.service.create .Values.ringway.statusAddresses) }}true{{ end -}}
{{- end -}}

{{/* Objects of ours are for this gateway alone. */}}
{{- define "ringway.ambassadorId" -}}
{{- with .Values.env.AMBASSADOR_ID -}}
ambassador_id: [{{ . | quote }}]
{{- end -}}
{{- end -}}

{{/* Seconds after SIGTERM. */}}
{{- define "ringway.grace" -}}
{{- $drain := .Values.env.AMBASSADOR_DRAIN_TIME | default .Values.ringway.drainSeconds | int -}}
{{- .Values.terminationGracePeriodSeconds | default (add .Values.ringway.shutdownDelaySeconds $drain 5) -}}
{{- end -}}

{{/* Whether the release is a Deployment. */}}
{{- define "ringway.isDeployment" -}}
{{- if not (or .Values.daemonSet .Values.barePod) }}yes{{ end -}}
{{- end -}}

{{/* Whether the next Pod of a node takes the sockets of the last one over. */}}
{{- define "ringway.handsOver" -}}
{{- if and .Values.hostNetwork .Values.daemonSet (not .Values.barePod) .Values.ringway.handover.enabled }}yes{{ end -}}
{{- end -}}

{{- define "ringway.seccompProfile" -}}
{{- if eq .Values.ringway.seccomp "runtimeDefault" -}}
type: RuntimeDefault
{{- else if eq .Values.ringway.seccomp "unconfined" -}}
type: Unconfined
{{- else if eq .Values.ringway.seccomp "operator" -}}
type: Localhost
localhostProfile: operator/{{ include "ringway.namespace" . }}/{{ include "ringway.fullname" . }}.json
{{- else -}}
type: Localhost
localhostProfile: {{ .Values.ringway.seccompProfile }}
{{- end -}}
{{- end -}}

{{/* What cannot be meant. */}}
{{- define "ringway.refuse" -}}
{{- if .Values.ambassadorConfig -}}
{{- fail "ambassadorConfig is not supported: the gateway of a cluster reads no files. Apply its objects instead." -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not (include "ringway.isDeployment" .)) -}}
{{- fail "autoscaling is for Deployments: set daemonSet: false as well, or leave autoscaling off." -}}
{{- end -}}
{{- if and .Values.canary.enabled (not (include "ringway.isDeployment" .)) -}}
{{- fail "a canary is a second Deployment: set daemonSet: false as well." -}}
{{- end -}}
{{- end -}}
