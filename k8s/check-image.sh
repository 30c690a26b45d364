#!/usr/bin/env bash
# Run a serving image as a pod would, and compare its answer with that of the service in this checkout.
#
# usage: k8s/check-image.sh IMAGE
#   ENGINE   container engine with its global options; default: docker
#   RUN      more options for its `run`, such as --network host
#   PYTHON   an interpreter with `.[serve]` installed; default: .venv/bin/python
#   PORT     the container's port; the next one is used as well; default: 18000
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
read -ra engine <<<"${ENGINE:-docker}"
read -ra run <<<"${RUN:---publish 127.0.0.1:${PORT:-18000}:${PORT:-18000}}"
python=${PYTHON:-.venv/bin/python}
port=${PORT:-18000}
name=robomask-check-$$
direct=
scratch=$(mktemp -d)

finish() {
  [ -z "$direct" ] || kill "$direct" 2>/dev/null || true
  "${engine[@]}" rm --force "$name" >/dev/null 2>&1 || true
  rm -rf "$scratch"
}
trap finish EXIT

say() { printf '%-58s %s\n' "$1" "$2"; }
wait_ready() { # URL
  for _ in $(seq 300); do
    curl --silent --fail --output /dev/null "$1/readyz" && return
    sleep 0.2
  done
  echo "expected $1 to become ready in 60 s, it did not; the container says:" >&2
  "${engine[@]}" logs "$name" >&2
  return 1
}
inside() { "${engine[@]}" run --rm "${run[@]}" --entrypoint "$1" "$image" "${@:2}"; }

[ "$(inside id -u)" != 0 ]
say "does not run as root" "uid $(inside id -u)"
inside python -c '
import importlib.util, shutil, sys
found = [m for m in ("torch", "onnx", "lightning", "training", "export") if importlib.util.find_spec(m)]
found += [p for p in ("cc", "gcc", "clang", "make") if shutil.which(p)]
sys.exit("expected neither compiler nor training code, found " + ", ".join(found) if found else 0)'
say "holds neither compiler nor training code" yes
say "size" "$("${engine[@]}" image inspect --format '{{.Size}}' "$image" | awk '{ printf "%.0f MB\n", $1 / 1e6 }')"

"${engine[@]}" run --detach --name "$name" "${run[@]}" --read-only --cap-drop ALL \
  --security-opt no-new-privileges --memory 1g --env "ROBOMASK_PORT=$port" "$image" >/dev/null
wait_ready "http://127.0.0.1:$port"
say "ready with a read-only root and no capability" yes
"$python" -m robomask serve --provider cpu --port $((port + 1)) --log-level error &
direct=$!
wait_ready "http://127.0.0.1:$((port + 1))"
for p in "$port" $((port + 1)); do
  curl --silent --fail --form frame=@examples/frame.png "http://127.0.0.1:$p/segment?latents=true" |
    "$python" -c 'import json, sys; a = json.load(sys.stdin); a.pop("timing_ms"); print(json.dumps(a, sort_keys=True))' \
      >"$scratch/$p"
done
cmp "$scratch/$port" "$scratch/$((port + 1))"
say "answers examples/frame.png as this checkout does" "$(wc -c <"$scratch/$port") equal bytes"
say "model" "$("$python" -c 'import json, sys; a = json.load(open(sys.argv[1])); print(a["model"]["name"], a["model"]["version"], "mask of", a["frames"][0]["area"], "pixels")' "$scratch/$port")"
"${engine[@]}" exec "$name" python -c '
import pathlib, sys
try:
    pathlib.Path("/written").write_text("x")
except OSError as error:
    print(error.strerror)
else:
    sys.exit("expected a root file system that is read-only, could write to it")' >/dev/null
say "cannot write to its root" yes
"${engine[@]}" stop --time 40 "$name" >/dev/null
status=$("${engine[@]}" inspect --format '{{.State.ExitCode}}' "$name")
say "exit status when told to stop" "$status"
[ "$status" = 0 ]
