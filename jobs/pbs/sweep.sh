#!/usr/bin/env bash
# Sweep in one allocation, many solves side by side:  qsub jobs/pbs/sweep.sh
# estimate: 54 points, 0.228 core-hours on 32 cores
# Before the time limit it writes a checkpoint, is requeued and goes on by itself.
#PBS -N ns-paper
#PBS -l select=1:ncpus=32:mpiprocs=32:mem=70400mb
#PBS -l walltime=00:30:00
#PBS -j oe -o ns-paper.log
trap '' USR1  # the last command listens, and watches the time itself
cd "${PBS_O_WORKDIR:-.}" || exit
export NANOSLIT_SITE="${NANOSLIT_SITE:-$PWD/jobs/site.env}"
set -a
# shellcheck source=/dev/null
. "$NANOSLIT_SITE" || exit  # jobs/site.env.example, edited
set +a
site_setup || exit
set -euo pipefail  # not before: modules may use unset variables
exec nanoslit job attempt --stop-after $((1620 - SECONDS)) --script jobs/pbs/sweep.sh -- \
  sweep run sweeps/paper.toml -o results/paper/sweep --cluster local --workers 32
