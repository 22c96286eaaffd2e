#!/usr/bin/env bash
# Register every image of a folder to a template; rerun it to continue where it stopped.
#   examples/folder_to_template.sh TEMPLATE.nii.gz SCANS/ RESULTS/ [regcli register options]
set -euo pipefail
template=$1 scans=$2 results=$3
shift 3

failed=0
for scan in "$scans"/*.nii.gz; do
    name=$(basename "$scan" .nii.gz)
    [ -e "$results/$name/regcli.json" ] && continue # written last: the result is complete
    regcli register "$template" "$scan" -o "$results/$name" -q --force "$@" >/dev/null || {
        echo "failed (exit $?): $scan" >&2
        failed=1
    }
done
exit "$failed"
