#!/usr/bin/env bash
# Check the Dockerfile and every overlay against common policies. Needs kubectl, checkov and hadolint on the path.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for overlay in k8s/overlays/*/; do
  kubectl kustomize "$overlay" >"$scratch/$(basename "$overlay").yaml"
done
hadolint Dockerfile
checkov --config-file k8s/checkov.yaml --directory "$scratch"
checkov --config-file k8s/checkov.yaml --file Dockerfile
