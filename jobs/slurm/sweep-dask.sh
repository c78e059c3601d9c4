#!/usr/bin/env bash
# Service of a sweep; Dask submits its workers as jobs:  sbatch jobs/slurm/sweep-dask.sh
# estimate: 54 points, 0.228 core-hours on 32 cores
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#SBATCH --requeue
#SBATCH --job-name=ns-paper
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --mem-per-cpu=2000M
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
trap '' USR1  # the last command listens, and watches the time itself
cd "${SLURM_SUBMIT_DIR:-.}" || exit
export NANOSLIT_SITE="${NANOSLIT_SITE:-$PWD/jobs/site.env}"
set -a
# shellcheck source=/dev/null
. "$NANOSLIT_SITE" || exit  # jobs/site.env.example, edited
set +a
site_setup || exit
set -euo pipefail  # not before: modules may use unset variables
exec nanoslit job attempt --stop-after $((86100 - SECONDS)) -- \
  sweep run sweeps/paper.toml -o results/paper/sweep --cluster slurm --workers 8
