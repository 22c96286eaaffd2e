#!/usr/bin/env bash
#SBATCH --job-name=regcli
#SBATCH --array=1-20
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
# Register the pairs of a table by 20 jobs of an array, each on its own rows.
#   sbatch examples/slurm_array.sh PAIRS.csv RUNS/ [options of regcli batch]
# Submit it again to continue jobs that ran out of time; when all have ended, write the summary of
# all rows with: regcli batch PAIRS.csv -o RUNS/ --resume [the same options]
set -euo pipefail
pairs=$1 runs=$2
shift 2
exec regcli batch "$pairs" -o "$runs" --index "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --resume --threads "${SLURM_CPUS_PER_TASK:-1}" "$@"
