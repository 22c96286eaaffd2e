#!/usr/bin/env bash
# Register every image of a folder to a template; rerun it to continue where it stopped.
#   examples/folder_to_template.sh TEMPLATE.nii.gz SCANS/ RESULTS/ [options of regcli batch]
# Four at a time: -j 4. On a Dask cluster that sees the same files: --dask tcp://HOST:8786
set -euo pipefail
template=$(realpath "$1") scans=$(realpath "$2") results=$3
shift 3

quoted() { printf '"%s"' "${1//\"/\"\"}"; } # as CSV wants names with commas and quotes
mkdir -p "$results"
{
    echo fixed,moving,out
    for scan in "$scans"/*.nii.gz; do
        echo "$(quoted "$template"),$(quoted "$scan"),$(quoted "$(basename "$scan" .nii.gz)")"
    done
} >"$results/pairs.csv"
regcli batch "$results/pairs.csv" -o "$results" --resume "$@"
