#!/usr/bin/env bash
# Explore circuits:  sbatch jobs/slurm/explore.sh
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#SBATCH --requeue
#SBATCH --job-name=ns-explored
#SBATCH --nodes=1
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=1000M
#SBATCH --time=01:00:00
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
exec nanoslit job attempt --stop-after $((3300 - SECONDS)) -- \
  explore results/paper/explore.toml -o results/paper/explored.h5 --overwrite --threads 4
