{{- define "lorikeet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "lorikeet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "lorikeet.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lorikeet.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lorikeet.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lorikeet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The hub's pod, which is never the one of helm test. */ -}}
{{- define "lorikeet.podLabels" -}}
{{ include "lorikeet.selectorLabels" . }}
app.kubernetes.io/component: hub
{{- end -}}

{{- define "lorikeet.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "lorikeet.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: lorikeet
{{- end -}}

{{- define "lorikeet.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "lorikeet.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Called with (list image chart): repository and digest, or tag. */ -}}
{{- define "lorikeet.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (index . 1).AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "lorikeet.tokenSecret" -}}
{{- default (printf "%s-token" (include "lorikeet.fullname" .)) .Values.hub.token.existingSecret -}}
{{- end -}}

{{- /* The hub's settings, as it reads them; hub.config goes over them. */ -}}
{{- define "lorikeet.hubFile" -}}
{{- $external := .Values.broker.external -}}
{{- $broker := dict -}}
{{- if .Values.broker.bundled -}}
{{- $_ := set $broker "url" (printf "mqtts://localhost:%d" (int 8883)) -}}
{{- else -}}
{{- $broker = dict "url" $external.url "profile" $external.profile "protocol" $external.protocol -}}
{{- if $external.username -}}{{- $_ := set $broker "username" $external.username -}}{{- end -}}
{{- range $key, $file := .Values.broker.external.files -}}
{{- $_ := set $broker $key (printf "/broker-secret/%s" $file) -}}
{{- end -}}
{{- end -}}
{{- $http := dict "listen" "0.0.0.0:8080" "token_file" (printf "/token/%s" .Values.hub.token.key) -}}
{{- $inside := printf "http://%s.%s.svc:%d" (include "lorikeet.fullname" .) .Release.Namespace (int .Values.api.port) -}}
{{- $_ := set $http "public_url" (ternary .Values.enrolment.publicUrl $inside .Values.enrolment.enabled) -}}
{{- $store := dict "database" "sqlite:////state/hub.db" "blobs" "/state/blobs" "folder" "/state" -}}
{{- $file := dict "fleet" .Values.fleet "max_devices" (int .Values.hub.maxDevices) "broker" $broker "http" $http "store" $store -}}
{{- if .Values.enrolment.enabled -}}
{{- $enrolment := dict "listen" "0.0.0.0:8443" "public_url" .Values.enrolment.publicUrl "names" .Values.enrolment.names "certificate_days" (int .Values.enrolment.certificateDays) -}}
{{- if .Values.broker.bundled -}}
{{- $_ := set $enrolment "broker_url" .Values.broker.publicUrl -}}
{{- $_ := set $enrolment "broker_folder" "/state/broker" -}}
{{- end -}}
{{- $_ := set $file "enrolment" $enrolment -}}
{{- end -}}
{{- toYaml (mergeOverwrite $file .Values.hub.config) -}}
{{- end -}}
