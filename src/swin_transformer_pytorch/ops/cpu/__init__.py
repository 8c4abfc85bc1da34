"""Shifted-window attention for CPUs in C++: the source, how it is built on first use, and the op that it becomes."""
