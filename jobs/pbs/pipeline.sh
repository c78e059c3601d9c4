#!/usr/bin/env bash
# Solve, discover, explore:  bash jobs/pbs/pipeline.sh
set -euo pipefail
# each job submits the next: its own number changes when it is requeued
qsub -v NANOSLIT_RESTARTS=0,NANOSLIT_THEN=jobs/pbs/discover.sh:jobs/pbs/explore.sh jobs/pbs/sweep.sh
