"""What `tools/fuzz.py` feeds to the package: a module for each kind of file; `case.py` runs and judges one."""
