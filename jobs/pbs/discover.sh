#!/usr/bin/env bash
# Search for the law on islands:  qsub jobs/pbs/discover.sh
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#PBS -N ns-LAW
#PBS -l select=1:ncpus=4:mpiprocs=4:mem=4000mb
#PBS -l walltime=04:00:00
#PBS -j oe -o ns-LAW.log
trap '' USR1  # the last command listens, and watches the time itself
cd "${PBS_O_WORKDIR:-.}" || exit
export NANOSLIT_SITE="${NANOSLIT_SITE:-$PWD/jobs/site.env}"
set -a
# shellcheck source=/dev/null
. "$NANOSLIT_SITE" || exit  # jobs/site.env.example, edited
set +a
site_setup || exit
set -euo pipefail  # not before: modules may use unset variables
nanoslit job cells sweeps/paper.toml -o results/paper
exec nanoslit job attempt --ranks 4 --stop-after $((14100 - SECONDS)) --script jobs/pbs/discover.sh -- \
  discover results/paper/cells/*.h5 -o results/paper/LAW.json --quiet --resume
