"""Observers of a run on the host.

base       the hooks, and what calls them
console    a progress bar
jsonl      a log with one line per round and seed
plot       the learning curve as a picture
"""
