#!/usr/bin/env bash
# Search for the law on islands:  sbatch jobs/slurm/discover.sh
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#SBATCH --requeue
#SBATCH --job-name=ns-LAW
#SBATCH --nodes=1
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=1000M
#SBATCH --time=04:00:00
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
nanoslit job cells sweeps/paper.toml -o results/paper
exec nanoslit job attempt --ranks 4 --stop-after $((14100 - SECONDS)) -- \
  discover results/paper/cells/*.h5 -o results/paper/LAW.json --quiet --resume
