"""The sub-commands of `swin`, one module each; `cli` says what such a module holds.

They import torch only inside `run`; the module's docstring is the command's help.
"""
