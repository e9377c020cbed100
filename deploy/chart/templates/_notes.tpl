{{/* What is said after an installation. */}}
{{- define "ringway.notes" -}}
Ringway {{ .Chart.AppVersion }} serves the objects of {{ if .Values.scope.singleNamespace }}namespace {{ include "ringway.namespace" . }}{{ else }}all namespaces{{ end }} that are for the gateway "{{ .Values.env.AMBASSADOR_ID | default "default" }}".

  kubectl -n {{ include "ringway.namespace" . }} rollout status {{ if .Values.barePod }}pod{{ else if .Values.daemonSet }}daemonset{{ else }}deployment{{ end }}/{{ .Values.deploymentNameOverride | default (include "ringway.fullname" .) }}
{{- if .Values.service.create }}
  kubectl -n {{ include "ringway.namespace" . }} get service {{ .Values.service.nameOverride | default (include "ringway.fullname" .) }}
{{- end }}
  kubectl get mappings,hosts,listeners -A

The definitions of its kinds (crds/) are installed where there are none yet, never changed by an
upgrade and never deleted with the release. To change them: kubectl apply --server-side -f crds/
{{- $there := lookup "networking.k8s.io/v1" "IngressClass" "" .Values.ingressClassResource.name | default dict }}
{{- if and .Values.ingressClassResource.enabled $there (ne (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there) .Release.Name) }}

The IngressClass {{ .Values.ingressClassResource.name }} is there already and is left as it is.
{{- end }}
{{- if .Values.lifecycle }}

lifecycle: a preStop of `httpGet` or `sleep` works, and `exec` with the command [ringway, drain]. A
shell script does not: there is no shell and no curl in the image. None is needed, since the gateway
goes on accepting for {{ .Values.ringway.shutdownDelaySeconds }} s after SIGTERM and ends what is under way.
{{- end }}
{{- if eq .Values.ringway.seccomp "runtimeDefault" }}

Workers use io_uring where the nodes' default seccomp profile allows it, which most do not: then
epoll. With ringway.seccomp=install the nodes get a profile that does.
{{- end }}
{{- if or .Values.hostNetwork .Values.ringway.hostPorts (eq .Values.ringway.seccomp "install") }}

Ports and folders of the nodes are only for namespaces with the label
pod-security.kubernetes.io/enforce: privileged.
{{- end }}
{{- if .Values.ringway.conversion.secretName }}

Every Pod converts objects between versions. To make the API server ask for it, with the authority
of the Secret's certificate in ca.crt:

  ringway crds --webhook={{ include "ringway.namespace" . }}/{{ include "ringway.fullname" . }}-conversion --ca=ca.crt | sh
{{- end }}
{{- if .Values.hostNetwork }}

On the nodes' network a Listener's port is the node's. Ports below 1024 need
net.ipv4.ip_unprivileged_port_start=0 there. The admin port is on loopback, where probes find it and
the admin Service does not.
{{- if include "ringway.handsOver" . }} The next Pod of a node takes the sockets of the last one over at
{{ .Values.ringway.handover.path }}, a folder of the node.
{{- else }} One Pod of a node stops before the next one starts.
{{- end }}
{{- end }}
{{- range $name, $why := dict
    "waitForApiext" "there is no webhook to wait for"
    "agent" "nothing reports to anybody's cloud"
    "prometheusExporter" "metrics are on the admin port, at /metrics" }}
{{- if dig "enabled" false (index $.Values $name) }}

{{ $name }} is accepted without effect: {{ $why }}.
{{- end }}
{{- end }}
{{- if or .Values.security.podSecurityPolicy .Values.rbac.podSecurityPolicies }}

podSecurityPolicy is accepted without effect: Kubernetes has none since 1.25.
{{- end }}
{{- if .Values.canary.mixPods }}

canary.mixPods is accepted without effect: the Service of the main Pods never leads to the canary's.
{{- end }}
{{- end -}}
