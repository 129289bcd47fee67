"""Families of environments written in JAX, one file each, imported when one is asked for.

table: which families there are, and whose an environment is. world: what each gives of
one environment; spoken: that in the words of gymnax's protocol.
drawing: pictures by MuJoCo, for those that are built on it.

craftax, brax, jumanji, navix, xminigrid, playground: each has `names() -> [str]` and
`world(env, params) -> World` of a name or an instance.
"""
