#!/usr/bin/env bash
# Sweep in one allocation, many solves side by side:  sbatch jobs/slurm/sweep.sh
# estimate: 54 points, 0.228 core-hours on 32 cores
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#SBATCH --requeue
#SBATCH --job-name=ns-paper
#SBATCH --nodes=1
#SBATCH --ntasks=32
#SBATCH --mem-per-cpu=2200M
#SBATCH --time=00:30:00
#SBATCH --signal=B:USR1@180
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
exec nanoslit job attempt --stop-after $((1620 - SECONDS)) -- \
  sweep run sweeps/paper.toml -o results/paper/sweep --cluster local --workers 32
