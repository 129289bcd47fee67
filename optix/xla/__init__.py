"""What XLA does badly, done otherwise: each file says with what gain.

affine: weight gradients of many rows. permutation: a cheap shuffle. threefry: JAX's
random bits without a loop. stored: what XLA shall not compute again for every use.
"""
