"""``python -m nanoslit`` is the console command (this is what mpirun starts)."""

from nanoslit.cli import main

main()
