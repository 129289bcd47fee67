"""Pure mathematics, written unbatched with asserted ranks; the caller vmaps.

returns: generalised advantages. running: means and variances of streams.
statistics: what a series of scores says. permutation: a cheap shuffle.
"""
