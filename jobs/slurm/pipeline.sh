#!/usr/bin/env bash
# Solve, discover, explore:  bash jobs/slurm/pipeline.sh
set -euo pipefail
job=$(sbatch --parsable jobs/slurm/pipeline-1.sh)
echo "submitted job ${job%%;*}"
job=$(sbatch --parsable --kill-on-invalid-dep=yes --dependency="afterok:${job%%;*}" jobs/slurm/pipeline-2.sh)
echo "submitted job ${job%%;*}, which waits for it"
job=$(sbatch --parsable --kill-on-invalid-dep=yes --dependency="afterok:${job%%;*}" jobs/slurm/pipeline-3.sh)
echo "submitted job ${job%%;*}, which waits for it"
