#!/usr/bin/env bash
# Solve several cases, each in one task of an array:  sbatch jobs/slurm/solve-array.sh
# estimate: 5304 mesh nodes, 7.96 s on one core
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#SBATCH --requeue
#SBATCH --job-name=ns-solve
#SBATCH --nodes=1
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=350M
#SBATCH --time=00:30:00
#SBATCH --signal=B:USR1@180
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
#SBATCH --array=0-1
trap '' USR1  # the last command listens, and watches the time itself
cd "${SLURM_SUBMIT_DIR:-.}" || exit
export NANOSLIT_SITE="${NANOSLIT_SITE:-$PWD/jobs/site.env}"
set -a
# shellcheck source=/dev/null
. "$NANOSLIT_SITE" || exit  # jobs/site.env.example, edited
set +a
site_setup || exit
set -euo pipefail  # not before: modules may use unset variables
cases=(cases/a.toml cases/b.toml)
case=${cases[SLURM_ARRAY_TASK_ID]}
exec nanoslit job attempt --ranks 4 --stop-after $((1620 - SECONDS)) -- \
  run "$case" -o results/"$(basename "$case" .toml)".h5 --resume
