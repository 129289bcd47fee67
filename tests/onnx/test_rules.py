"""Each rule against JAX itself, on rows of any batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.onnx.file import save
from optix.onnx.row import row_model
from optix.onnx.steps import UnsupportedError
from optix.xla import convolution
from tests.onnx.parity import TOLERANCE, Played

W = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
INDEX = np.array([2, 0, 5, 1])  # 5 is beyond the end


def turned(x):
    """A loop whose turns are known, over rows that are not all known."""

    def turn(carry, row):
        return carry * 0.5 + row, carry.sum()

    last, sums = jax.lax.scan(turn, x[0], jnp.concatenate([x, x[::-1]]), reverse=True)
    return jnp.concatenate([last, sums])


def whiled(x):
    return jax.lax.fori_loop(0, 3, lambda n, y: jnp.tanh(y @ W.T @ W) + n, x)


def branched(x):
    return jax.lax.cond(x[0, 0] > 0, lambda x: x + 1, lambda x: jnp.exp(-x), x)


def rounded(x):
    return jnp.stack([jnp.floor(x), jnp.ceil(x), jnp.round(x), jnp.sign(x), x % 0.7])


def compared(x):
    y = jnp.where((x > 0.2) & ~(x >= 1) | (x != x), x, -x)
    return y + jnp.isfinite(x) + (x <= 0.1) + (x == x) + (x < -1).astype(jnp.int32)


def special(x):
    y = jnp.abs(x) + 0.3
    parts = (jnp.log1p(y), jnp.expm1(x), jax.scipy.special.erfc(x), jnp.exp2(x))
    return jnp.stack([*parts, jax.lax.rsqrt(y), y**3, y**0.5, jnp.sqrt(y), y**-1])


def moved(x):
    y = x.at[:, jnp.array([1, 3])].set(-1.0).at[5, 0].set(9.0, mode="drop")
    return jnp.concatenate([y, jnp.pad(x, ((1, 0), (0, 0)), constant_values=2.0)])


def placed(x):
    y = jax.lax.dynamic_update_slice(x, x[:1, :2] * 3, (1, 2))
    return jnp.stack([jax.lax.dynamic_slice(y, (1, 1), (2, 2)), jnp.flip(x[:2, :2], 1)])


FUNCTIONS = {  # of a row [3, 4]
    "matrix": lambda x: x @ W.T,
    "matrix_first": lambda x: W.T @ x,
    "vector": lambda x: W @ x[1],
    "scalar": lambda x: x[0] @ W[1],
    "both": lambda x: x @ x.T,
    "batched": lambda x: jnp.einsum(
        "bij,bkj->bik", jnp.stack([x, 2 * x]), jnp.stack([x, -x])
    ),
    "einsum": lambda x: jnp.einsum("ij,ik->kj", x, W),
    "axes": lambda x: jnp.einsum("hij,j->ih", jnp.stack([x, -x]), W[0]),
    "sums": lambda x: jnp.stack([x.sum(), x.max(), x.min(), x[0].prod(), x.var()]),
    "flags": lambda x: jnp.stack([(x > 0).any(1), (x > -1).all(1)]),
    "best": lambda x: jnp.stack([x.argmax(0), x.argmin(0)]),
    "softmax": lambda x: jax.nn.softmax(x, 0) + jax.nn.log_softmax(x),
    "cumulative": lambda x: jnp.cumsum(x, 0) + jnp.cumsum(x[:, ::-1], 1)[:, ::-1],
    "gather": lambda x: jnp.take(x, INDEX, 0, mode="fill", fill_value=7.0),
    "clipped": lambda x: jnp.take(x, INDEX, 0, mode="clip")[:, [3, 1]],
    "slices": lambda x: jnp.concatenate([x[::2, 1:], x[1:, :-1], W[:1, :3]]),
    "known": lambda x: jnp.concatenate([jnp.full((2, 4), 3.0), x, x[:0]]),
    "split": lambda x: jnp.concatenate(jnp.split(x, [1, 3], 1)[::-1], 1),
    "tiled": lambda x: jnp.tile(x, (2, 1)) + jnp.repeat(x, 2, 0),
    "unstacked": lambda x: jnp.unstack(x, axis=1)[2] + jnp.unstack(x, axis=1)[0],
    "transposed": lambda x: jnp.transpose(x[None], (2, 0, 1)),
    "clamp": lambda x: jnp.clip(x, x.min() + 1, W),
    "one_hot": lambda x: jax.nn.one_hot(x[:, 0].argmax(), 3),
    "selected": lambda x: jnp.select([x[0, 0] > 1, x[0, 0] > 0], [x, 2 * x], 0.0),
    "switched": lambda x: jax.lax.switch(x[0].argmax(), [jnp.sin, jnp.cos, jnp.abs], x),
    "constant": lambda x: W * 2,
    "copies": lambda x: jnp.broadcast_to(x[:, None, :1], (3, 2, 4)) + W[:, None],
    "activations": lambda x: (
        jax.nn.silu(x) + jax.nn.gelu(x) + jax.nn.softplus(x) * jax.nn.elu(x)
    ),
    "rematerialised": jax.checkpoint(lambda x: jnp.tanh(x) * x),
    "inner_vmap": lambda x: jax.vmap(lambda row, w: row.max() * w)(x, W),
    **{f.__name__: f for f in (turned, whiled, branched, rounded, compared, special)},
    **{f.__name__: f for f in (moved, placed)},
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """All in one file, and what JAX gives for a batch of 7."""

    def everything(given):
        return {name: function(given["x"]) for name, function in FUNCTIONS.items()}

    path = tmp_path_factory.mktemp("rules") / "rules.onnx"
    inputs = {"x": jax.ShapeDtypeStruct((3, 4), np.float32)}
    save(row_model(everything, inputs, {}), path)
    x = np.random.default_rng(0).normal(size=(7, 3, 4)).astype(np.float32)
    expected = jax.jit(jax.vmap(lambda x: everything({"x": x})))(x)
    played = Played(path)
    return expected, [(n, played(x=x[:n])) for n in (1, 7)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_rule_gives_what_jax_gives(both, name):
    expected, found = both
    for batch, outputs in found:
        value = np.asarray(expected[name])[:batch]
        assert outputs[name].shape == value.shape and outputs[name].dtype == value.dtype
        np.testing.assert_allclose(outputs[name], value, **TOLERANCE)


CONVOLUTIONS = {  # (stride, padding, dilation, groups)
    "valid": ((1, 1), "VALID", (1, 1), 1),
    "same": ((2, 1), "SAME", (1, 1), 1),
    "grouped": ((1, 2), ((1, 0), (2, 1)), (2, 1), 2),
}


def test_convolutions(tmp_path):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(2, 3, 4, 6)).astype(np.float32)

    def everything(given):
        x = jnp.stack([given["x"], given["x"][::-1]])  # two images in a row
        return {
            name: jax.lax.conv_general_dilated(
                x,
                kernel[:, :, : 4 // groups],
                stride,
                padding,
                rhs_dilation=dilation,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=groups,
            )
            for name, (stride, padding, dilation, groups) in CONVOLUTIONS.items()
        }

    inputs = {"x": jax.ShapeDtypeStruct((6, 7, 4), np.float32)}
    save(row_model(everything, inputs, {}), tmp_path / "images.onnx")
    x = random.normal(size=(7, 6, 7, 4)).astype(np.float32)
    expected = jax.vmap(lambda x: everything({"x": x}))(x)
    found = Played(tmp_path / "images.onnx")(x=x)
    for name in CONVOLUTIONS:
        np.testing.assert_allclose(found[name], expected[name], **TOLERANCE)


@pytest.mark.parametrize("numbers", [2**25, 0])
def test_both_ways_of_a_network_s_convolution(numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(convolution, "_PATCHES_AT_MOST", numbers)
    draw = np.random.default_rng(0).normal
    kernel, bias = (draw(size=n).astype(np.float32) for n in ((8, 8, 3, 5), (5,)))

    def features(given):
        return {"y": convolution.convolve(given["x"][None], kernel, bias, 4)[0]}

    inputs = {"x": jax.ShapeDtypeStruct((18, 21, 3), np.float32)}
    save(row_model(features, inputs, {}), tmp_path / "image.onnx")
    x = draw(size=(7, 18, 21, 3)).astype(np.float32)
    expected = jax.vmap(lambda x: features({"x": x})["y"])(x)
    found = Played(tmp_path / "image.onnx")(x=x)["y"]
    np.testing.assert_allclose(found, expected, **TOLERANCE)


REFUSED = {  # what is said of it
    "sort": (jnp.sort, "got sort;"),
    "while": (
        lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x),
        "while whose turns depend on the input",
    ),
    "places": (
        lambda x: jnp.asarray(W)[x[:, 0].argmax()],
        "at places that depend on the input",
    ),
    "bits": (lambda x: x.astype(jnp.int32) & 1, "and of integers"),
    "callback": (
        lambda x: jax.pure_callback(
            np.asarray, jax.ShapeDtypeStruct((3, 4), x.dtype), x
        ),
        "got pure_callback",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_named(name):
    function, message = REFUSED[name]
    inputs = {"x": jax.ShapeDtypeStruct((3, 4), np.float32)}
    with pytest.raises(UnsupportedError, match=message):
        row_model(lambda given: {"out": function(given["x"])}, inputs, {})


def test_what_is_computed_twice_stands_there_once():
    inputs = {"x": jax.ShapeDtypeStruct((3, 4), np.float32)}

    def twice(given):
        x = given["x"]
        return {"one": jnp.tanh(x @ W.T), "two": jnp.tanh(x @ W.T) + 1}

    nodes = [node.op_type for node in row_model(twice, inputs, {}).graph.node]
    assert nodes.count("MatMul") == nodes.count("Tanh") == 1
