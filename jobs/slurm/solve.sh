#!/usr/bin/env bash
# Solve one case:  sbatch jobs/slurm/solve.sh
# estimate: 5304 mesh nodes, 7.96 s on one core
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#SBATCH --requeue
#SBATCH --job-name=ns-case
#SBATCH --nodes=1
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=350M
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
exec nanoslit job attempt --ranks 4 --stop-after $((1620 - SECONDS)) -- \
  run case.toml -o result.h5 --resume
