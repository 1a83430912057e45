"""``python -m preprocess``."""

from preprocess.cli import main

main(prog_name="tsn-preprocess")
