#!/usr/bin/env bash
# Register the T1w images of a BIDS folder to a template; results are named as derivatives are:
# OUT/sub-01/ses-1/anat/sub-01_ses-1_from-T1w_to-MNI_xfm/. Rerun it to continue where it stopped.
#   examples/bids_to_template.sh TEMPLATE.nii.gz BIDS/ OUT/ NAME [options of regcli batch]
# NAME says what the template is, such as MNI152NLin2009cAsym.
set -euo pipefail
template=$(realpath "$1") bids=$(realpath "$2") out=$3 name=$4
shift 4

mkdir -p "$out"
echo fixed,moving,out >"$out/pairs.csv"
for scan in "$bids"/sub-*/{,ses-*/}anat/*_T1w.nii.gz; do
    [ -e "$scan" ] || continue # a pattern that no file fits
    folder=$(dirname "${scan#"$bids"/}")
    result="$folder/$(basename "$scan" _T1w.nii.gz)_from-T1w_to-${name}_xfm"
    printf '"%s","%s","%s"\n' "$template" "$scan" "$result" >>"$out/pairs.csv"
done
regcli batch "$out/pairs.csv" -o "$out" --resume "$@"
