#!/usr/bin/env bash
# Segment a scan by an atlas: register the atlas to it, and carry the atlas's labels over.
#   examples/labels_to_subject.sh SCAN.nii.gz ATLAS.nii.gz ATLAS_LABELS.nii.gz RESULT/
set -euo pipefail
scan=$1 atlas=$2 labels=$3 result=$4

regcli register "$scan" "$atlas" -o "$result/registration" --fail-on 'ndv>0' -q >/dev/null
regcli apply -t "$result/registration" "$labels" -o "$result" -q
