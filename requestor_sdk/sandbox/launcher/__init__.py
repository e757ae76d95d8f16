"""The launcher: a small process that makes sandboxes, and clears up when its host dies.

It runs as its own interpreter with the standard library only, and must stay that way: it is
started for every runtime, forked for every sandbox, and imported with no package on the path.
"""
