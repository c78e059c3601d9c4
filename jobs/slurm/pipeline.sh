#!/usr/bin/env bash
# Solve, discover, explore:  bash jobs/slurm/pipeline.sh
set -euo pipefail
job=$(sbatch --parsable jobs/slurm/sweep.sh)
echo "submitted job ${job%%;*}"
job=$(sbatch --parsable --kill-on-invalid-dep=yes --dependency="afterok:${job%%;*}" jobs/slurm/discover.sh)
echo "submitted job ${job%%;*}, which waits for it"
job=$(sbatch --parsable --kill-on-invalid-dep=yes --dependency="afterok:${job%%;*}" jobs/slurm/explore.sh)
echo "submitted job ${job%%;*}, which waits for it"
