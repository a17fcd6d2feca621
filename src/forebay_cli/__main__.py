"""Lets ``python -m forebay_cli`` do what the console script does."""

from __future__ import annotations

from forebay_cli.entry import main

main()
