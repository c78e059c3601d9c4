#!/usr/bin/env bash
# Solve one case:  qsub jobs/pbs/solve.sh
# estimate: 5304 mesh nodes, 7.96 s on one core
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#PBS -N ns-case
#PBS -l select=1:ncpus=4:mpiprocs=4:mem=1400mb
#PBS -l walltime=00:30:00
#PBS -j oe -o ns-case.log
trap '' USR1  # the last command listens, and watches the time itself
cd "${PBS_O_WORKDIR:-.}" || exit
export NANOSLIT_SITE="${NANOSLIT_SITE:-$PWD/jobs/site.env}"
set -a
# shellcheck source=/dev/null
. "$NANOSLIT_SITE" || exit  # jobs/site.env.example, edited
set +a
site_setup || exit
set -euo pipefail  # not before: modules may use unset variables
exec nanoslit job attempt --ranks 4 --stop-after $((1620 - SECONDS)) --script jobs/pbs/solve.sh -- \
  run case.toml -o result.h5 --resume
