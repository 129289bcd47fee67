"""Pure mathematics, written unbatched with asserted ranks; the caller vmaps.

returns: generalised advantages and V-trace. categorical: distributions over values.
running: means and variances of streams. statistics: what a series of scores says.
masks: which actions are allowed. regime: what kind of time it is. residuals: what no
smooth curve explains.
"""
