#!/usr/bin/env bash
# folder_to_template.sh on a Dask cluster of this machine (pip install 'regcli[dask]').
#   examples/folder_to_template_dask.sh TEMPLATE.nii.gz SCANS/ RESULTS/ [options of regcli batch]
# WORKERS processes (2) share the cores. Others join from any machine that sees the same files:
#   dask worker ADDRESS --nthreads 4
set -euo pipefail
workers=${WORKERS:-2}
threads=$(($(nproc) / workers))
cluster=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$cluster"' EXIT

dask scheduler --port 0 --no-dashboard --scheduler-file "$cluster/file" 2>"$cluster/log" &
dask worker --scheduler-file "$cluster/file" --nworkers "$workers" --no-dashboard \
    --nthreads "$((threads > 0 ? threads : 1))" --memory-limit 0 2>>"$cluster/log" &

until address=$(sed -n 's/.*"address": "\(tcp:[^"]*\)".*/\1/p' "$cluster/file" 2>/dev/null | head -n 1) &&
    [ -n "$address" ]; do
    if [ "$(jobs -pr | wc -l)" -lt 2 ]; then
        cat "$cluster/log" >&2
        exit 1
    fi
    sleep 0.1
done
echo "Dask scheduler: $address" >&2
"$(dirname "$0")/folder_to_template.sh" "$@" --dask "$address"
