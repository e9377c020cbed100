{{/* The Pod: metadata and spec. Takes (dict "root" $ "profile" "main"|"canary"). */}}
{{- define "ringway.pod" -}}
{{- $ := .root -}}
{{- $canary := eq .profile "canary" -}}
{{- $v := $.Values -}}
{{- $r := $v.ringway -}}
metadata:
  {{- if $v.barePod }}
  name: {{ include "ringway.fullname" $ }}
  namespace: {{ include "ringway.namespace" $ }}
  {{- end }}
  labels:
    {{- with $v.service.selector }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "ringway.labels" $ | nindent 4 }}
    profile: {{ .profile }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ $v.containerNameOverride | default "ringway" }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  terminationGracePeriodSeconds: {{ include "ringway.grace" $ }}
  {{- with ($v.securityContext | default $v.security.podSecurityContext) }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  serviceAccountName: {{ include "ringway.serviceAccountName" $ }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  dnsPolicy: {{ ternary "ClusterFirstWithHostNet" $v.dnsPolicy (and $v.hostNetwork (eq $v.dnsPolicy "ClusterFirst")) }}
  {{- if $v.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- $install := eq $r.seccomp "install" }}
  {{- $handover := include "ringway.handsOver" $ }}
  {{- $converts := $r.conversion.secretName }}
  {{- if or $v.volumes $v.volumesRaw $install $handover $r.state.enabled $converts }}
  volumes:
    {{- if $handover }}
    - name: handover
      hostPath:
        path: {{ $r.handover.path }}/{{ include "ringway.namespace" $ }}-{{ include "ringway.fullname" $ }}
        type: DirectoryOrCreate
    {{- end }}
    {{- if $r.state.enabled }}
    - name: state
      emptyDir:
        medium: Memory
        sizeLimit: {{ $r.state.sizeLimit }}
    {{- end }}
    {{- if $converts }}
    - name: conversion
      secret:
        secretName: {{ $converts | quote }}
    {{- end }}
    {{- if $install }}
    - name: seccomp-profile
      configMap:
        name: {{ include "ringway.fullname" $ }}-seccomp
    - name: seccomp-folder
      hostPath:
        path: /var/lib/kubelet/seccomp/{{ dir $r.seccompProfile }}
        type: DirectoryOrCreate
    {{- end }}
    {{- with $v.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $v.volumesRaw }}
    {{- tpl . $ | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- if or $v.initContainers $install $handover }}
  initContainers:
    {{- if $handover }}
    # A folder that the kubelet makes is root's.
    - name: handover
      image: {{ $r.nodeImage }}
      {{- $user := $v.securityContext | default $v.security.podSecurityContext }}
      command: [chown, "{{ int $user.runAsUser }}:{{ int ($user.runAsGroup | default $user.runAsUser) }}", /handover]
      securityContext:
        runAsUser: 0
        runAsNonRoot: false
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          add: [CHOWN]
        seccompProfile:
          type: RuntimeDefault
      volumeMounts:
        - name: handover
          mountPath: /handover
    {{- end }}
    {{- if $install }}
    # The kubelet reads the profile when it starts the container after this one.
    - name: seccomp
      image: {{ $r.nodeImage }}
      command: [cp, /profile/io_uring.json, /folder/{{ base $r.seccompProfile }}]
      securityContext:
        runAsUser: 0
        runAsNonRoot: false
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
        seccompProfile:
          type: RuntimeDefault
      volumeMounts:
        - name: seccomp-profile
          mountPath: /profile
          readOnly: true
        - name: seccomp-folder
          mountPath: /folder
    {{- end }}
    {{- with $v.initContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ $v.containerNameOverride | default "ringway" }}
      {{- $image := $v.image }}
      {{- $repository := $image.repository }}
      {{- $tag := $image.tag | default $.Chart.AppVersion }}
      {{- if and $canary $v.canary.image.tag }}
      {{- $repository = $v.canary.image.repository | default $image.repository }}
      {{- $tag = $v.canary.image.tag }}
      image: "{{ $repository }}:{{ $tag }}"
      {{- else }}
      image: {{ $image.fullImageOverride | default (printf "%s:%s" $repository $tag) | quote }}
      {{- end }}
      imagePullPolicy: {{ $image.pullPolicy }}
      args:
        - run
        {{- range $r.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      {{- if not $v.hostNetwork }}
      ports:
        {{- range $v.service.ports }}
        - name: {{ .name }}
          containerPort: {{ int (.targetPort | default .port) }}
          {{- with .protocol }}
          protocol: {{ . }}
          {{- end }}
          {{- if .hostPort }}
          hostPort: {{ int .hostPort }}
          {{- else if $r.hostPorts }}
          hostPort: {{ int .port }}
          {{- end }}
        {{- end }}
        - name: admin
          containerPort: 8877
        - name: snapshot
          containerPort: 8005
        {{- if $converts }}
        - name: conversion
          containerPort: {{ int $r.conversion.port }}
        {{- end }}
      {{- end }}
      env:
        - name: HOST_IP
          valueFrom:
            fieldRef:
              fieldPath: status.hostIP
        # Set by Kubernetes 1.35 and newer; empty before.
        - name: NODE_ZONE
          valueFrom:
            fieldRef:
              fieldPath: metadata.labels['topology.kubernetes.io/zone']
        - name: AMBASSADOR_NAMESPACE
          {{- if $v.namespace.name }}
          value: {{ $v.namespace.name | quote }}
          {{- else }}
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
          {{- end }}
        {{- if $v.scope.singleNamespace }}
        - name: AMBASSADOR_SINGLE_NAMESPACE
          value: "YES"
        {{- end }}
        # On the node's network nobody else may see it.
        {{- $env := dict
          "AMBASSADOR_HEALTHCHECK_BIND_ADDRESS" (ternary "127.0.0.1" "0.0.0.0" $v.hostNetwork)
          "AMBASSADOR_DRAIN_TIME" $r.drainSeconds
          "RINGWAY_DEFAULT_LISTENERS" $r.defaultListeners
          "RINGWAY_IO_BACKEND" $r.ioBackend
          "RINGWAY_SHUTDOWN_DELAY" (printf "%ds" (int $r.shutdownDelaySeconds)) }}
        {{- if $handover }}
        {{- $_ := set $env "RINGWAY_HANDOVER" "/handover/socket" }}
        {{- /* Ended, it would be started again before it is told to end. */}}
        {{- $_ := set $env "RINGWAY_STAY" true }}
        {{- end }}
        {{- if $r.state.enabled }}
        {{- $_ := set $env "RINGWAY_STATE_DIR" "/state" }}
        {{- end }}
        {{- if $converts }}
        {{- $_ := set $env "RINGWAY_CONVERSION_CERTIFICATE" "/conversion" }}
        {{- $_ := set $env "RINGWAY_CONVERSION_ADDR" (printf "0.0.0.0:%d" (int $r.conversion.port)) }}
        {{- end }}
        {{- with $r.workers }}
        {{- $_ := set $env "RINGWAY_WORKERS" . }}
        {{- end }}
        {{- with $r.statusAddresses }}
        {{- $_ := set $env "RINGWAY_PUBLISH_STATUS_ADDRESS" (join "," .) }}
        {{- end }}
        {{- if include "ringway.publishesNodes" $ }}
        {{- $labels := list }}
        {{- range $name, $value := include "ringway.selector" $ | fromYaml }}
        {{- $labels = append $labels (printf "%s=%s" $name $value) }}
        {{- end }}
        {{- $_ := set $env "RINGWAY_PUBLISH_NODES_OF" (join "," $labels) }}
        {{- end }}
        {{- range $name, $value := $v.env }}
        {{- $_ := set $env (upper $name) $value }}
        {{- end }}
        {{- range $name, $value := $env }}
        - name: {{ $name | quote }}
          value: {{ ternary (int64 $value | toString) (toString $value) (kindIs "float64" $value) | quote }}
        {{- end }}
        {{- $raw := $v.envRaw }}
        {{- if and $canary $v.canary.envRaw }}
        {{- $raw = $v.canary.envRaw }}
        {{- end }}
        {{- with $raw }}
        {{- (kindIs "string" . | ternary (tpl (toString .) $) (toYaml .)) | nindent 8 }}
        {{- end }}
      securityContext:
        {{- toYaml $v.security.containerSecurityContext | nindent 8 }}
        {{- if not (hasKey $v.security.containerSecurityContext "seccompProfile") }}
        seccompProfile:
          {{- include "ringway.seccompProfile" $ | nindent 10 }}
        {{- end }}
      livenessProbe:
        httpGet:
          {{- include "ringway.probe" (list $ "check_alive") | nindent 10 }}
        {{- toYaml $v.livenessProbe | nindent 8 }}
      readinessProbe:
        httpGet:
          {{- include "ringway.probe" (list $ "check_ready") | nindent 10 }}
        {{- toYaml $v.readinessProbe | nindent 8 }}
      {{- with $v.startupProbe }}
      # That it runs; whether it is ready depends on others.
      startupProbe:
        httpGet:
          {{- include "ringway.probe" (list $ "check_alive") | nindent 10 }}
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $v.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if or $v.volumeMounts $v.volumeMountsRaw $handover $r.state.enabled $converts }}
      volumeMounts:
        {{- if $handover }}
        - name: handover
          mountPath: /handover
        {{- end }}
        {{- if $r.state.enabled }}
        - name: state
          mountPath: /state
        {{- end }}
        {{- if $converts }}
        - name: conversion
          mountPath: /conversion
          readOnly: true
        {{- end }}
        {{- with $v.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $v.volumeMountsRaw }}
        {{- tpl . $ | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- with $v.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with $v.sidecarContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* On the node's network the kubelet asks where nobody else can. */}}
{{- define "ringway.probe" -}}
{{- $ := index . 0 -}}
path: /ambassador/v0/{{ index . 1 }}
{{- if $.Values.hostNetwork }}
host: 127.0.0.1
port: 8877
{{- else }}
port: admin
{{- end }}
{{- end -}}
