"""What `tools/fuzz.py` feeds to the package: a module for each kind of file, and `case.py`, which runs and judges one."""
