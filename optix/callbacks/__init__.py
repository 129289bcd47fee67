"""Observers of a run on the host.

base       the hooks, and what calls them
console    a progress bar
terminal   text on streams that can not show everything
jsonl      a log with one line per round and seed
curve      the learning curve as a picture
"""
