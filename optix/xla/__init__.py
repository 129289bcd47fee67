"""What XLA does badly, done otherwise, and off where a backend gains nothing from it.

affine: weight gradients of many rows. backend: which backend, and how far loops over time
are unrolled. barrier: what is not fused. convolution: by patches or by XLA. kept, stored:
what is computed once, not for every use. permutation: a cheap shuffle. recurrence:
advantages without a loop. threefry: JAX's random bits without a loop. README.md beside
this file says what each gains, where that was measured, and when it may go.
"""
