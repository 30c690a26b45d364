#!/usr/bin/env bash
# Write the operator's PrometheusRule from the plain rules: the same groups under another head.
set -euo pipefail
cd "$(dirname "$0")/components/monitoring"
{
  cat <<'HEAD'
# Made by k8s/render-rules.sh from rules.yaml; change that file, then run it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: robomask
  labels:
    app.kubernetes.io/name: robomask
spec:
HEAD
  sed -n '/^groups:/,$p' rules.yaml | sed 's/^\(.\)/  \1/'
} > prometheus-rule.yaml
