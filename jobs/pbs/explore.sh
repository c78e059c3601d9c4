#!/usr/bin/env bash
# Explore circuits:  qsub jobs/pbs/explore.sh
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#PBS -N ns-explored
#PBS -l select=1:ncpus=4:mpiprocs=4:mem=4000mb
#PBS -l walltime=01:00:00
#PBS -j oe -o ns-explored.log
trap '' USR1  # the last command listens, and watches the time itself
cd "${PBS_O_WORKDIR:-.}" || exit
export NANOSLIT_SITE="${NANOSLIT_SITE:-$PWD/jobs/site.env}"
set -a
# shellcheck source=/dev/null
. "$NANOSLIT_SITE" || exit  # jobs/site.env.example, edited
set +a
site_setup || exit
set -euo pipefail  # not before: modules may use unset variables
exec nanoslit job attempt --stop-after $((3300 - SECONDS)) --script jobs/pbs/explore.sh -- \
  explore results/paper/explore.toml -o results/paper/explored.h5 --overwrite --threads 4
