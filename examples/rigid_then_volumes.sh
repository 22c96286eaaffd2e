#!/usr/bin/env bash
# Follow one person over time: register the later scan to the first one, and write where the
# tissue grew (log Jacobian above 0) or shrank (below 0).
#   examples/rigid_then_volumes.sh FIRST.nii.gz LATER.nii.gz RESULT/
set -euo pipefail
first=$1 later=$2 result=$3

regcli register "$first" "$later" --transform rigid -o "$result/rigid" -q >/dev/null
regcli register "$first" "$result/rigid/warped.nii.gz" --init none -o "$result/deformable" -q >/dev/null
regcli jacobian "$result/deformable" -o "$result/volumes" -q
