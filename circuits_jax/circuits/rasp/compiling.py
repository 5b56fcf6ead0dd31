"""Compiling the programs anew with tracr (the extra `tracr`); what comes with the library was made so.

    python -m circuits_jax.circuits.rasp.compiling

writes what is in `circuits_jax/circuits/rasp/shipped/`.
"""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits.rasp.programs import PROGRAMS, RaspProgram
from circuits_jax.circuits.rasp.weights import Compiled, CompiledHalf, save
from circuits_jax.storage.errors import ConfigError, UserError

MARK, PADDING = "BOS", "PAD"
RECORDED = 16  # inputs whose activations are kept, for tests
# What tracr calls the matrices of a layer.
_NAMES = {
    "query": "attn/query",
    "key": "attn/key",
    "value": "attn/value",
    "attention_out": "attn/linear",
    "mlp_in": "mlp/linear_1",
    "mlp_out": "mlp/linear_2",
}


def compile_program(program: RaspProgram) -> Compiled:
    """Compiles a program, and the one beside it, and asks tracr for their answers.

    Raises:
      UserError: without tracr, or if the compiled network does not compute what the program does.
      ConfigError: if no input gives one of the two answers.
    """
    try:
        from tracr.compiler import lib
        from tracr.rasp import rasp
    except ImportError as error:
        raise UserError(
            f"compiling needs tracr ({error}); pip install 'circuits_jax[tracr]', or use the compiled "
            "programs that come with the library"
        ) from error
    asked = program.build(rasp, lib)
    model = _compile(program, asked)
    every = _inputs(program)
    values = np.array([_number(asked(list(tokens))[program.position - 1]) for tokens in every])
    hits = [np.isclose(values, answer) for answer in program.answers]
    for answer, hit in zip(program.answers, hits, strict=True):
        if not hit.any():
            raise ConfigError(f"no input of the program {program.name} gives {answer:g}; name another answer")
    encode = model.input_encoder.encoding_map
    ids = np.array([[encode[MARK], *(encode[token] for token in tokens)] for tokens in every], np.int32)
    chosen = np.flatnonzero(hits[0] | hits[1])
    recorded = ids[np.random.default_rng(0).permutation(len(ids))[:RECORDED]]
    halves = [
        _half(model, recorded),
        _half(_compile(program, program.beside(rasp, lib)), recorded),
    ]
    found = (_residuals(model, ids[chosen]) @ halves[0].readout)[:, program.position, 0]
    if not np.allclose(found, values[chosen], atol=1e-3):
        raise UserError(
            f"tracr's network does not compute {program.name}; this release of tracr is not known"
        )
    return Compiled(
        name=program.name,
        asks=program.asks,
        position=program.position,
        answers=program.answers,
        causal=program.causal,
        tokens=tuple(sorted(encode, key=lambda token: encode[token])),
        asked=halves[0],
        beside=halves[1],
        inputs=ids[chosen],
        right=hits[1][chosen].astype(np.int32),
        recorded=recorded,
    )


def _compile(program: RaspProgram, expression: Any) -> Any:
    from tracr.compiler import compiling

    return compiling.compile_rasp_to_model(
        expression,
        vocab=set(program.tokens),
        max_seq_len=program.positions,
        causal=program.causal,
        compiler_bos=MARK,
        compiler_pad=PADDING,
    )


def _inputs(program: RaspProgram) -> list[tuple]:
    """Every input, in order."""
    if program.distinct:
        return list(itertools.permutations(program.tokens, program.length))
    return list(itertools.product(program.tokens, repeat=program.length))


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _half(model: Any, recorded: np.ndarray) -> CompiledHalf:
    layers = range(model.model_config.num_layers)

    def stacked(name: str, part: str) -> np.ndarray:
        found = [model.params[f"transformer/layer_{layer}/{_NAMES[name]}"][part] for layer in layers]
        return np.stack([np.asarray(each, np.float32) for each in found])

    # The encoder of a number has no table of values.
    table = getattr(model.output_encoder, "encoding_map", None)
    return CompiledHalf(
        heads=model.model_config.num_heads,
        embedding=np.asarray(model.params["token_embed"]["embeddings"], np.float32),
        positions=np.asarray(model.params["pos_embed"]["embeddings"], np.float32),
        kernels={name: stacked(name, "w") for name in _NAMES},
        biases={name: stacked(name, "b") for name in _NAMES},
        readout=_readout(model),
        outputs=tuple(sorted(table, key=lambda value: table[value])) if table else (),
        residuals=_residuals(model, recorded),
    )


def _residuals(model: Any, tokens: np.ndarray) -> np.ndarray:
    """The final residual stream, float32 [R, T, D]."""
    found = jax.jit(model.forward)(model.params, tokens)
    return np.asarray(found.transformer_output.output, np.float32)


def _readout(model: Any) -> np.ndarray:
    """The projection of the residual stream to the output, [D, O]: what it makes of every channel."""
    import haiku

    channels = np.eye(len(model.residual_labels), dtype=np.float32)
    project = haiku.without_apply_rng(
        haiku.transform(lambda x: model.get_compiled_model().unembed(x, use_unembed_argmax=False))
    )
    found = np.asarray(project.apply({}, channels), np.float32)
    return found.reshape(len(channels), -1)


def main(folder: Path = Path(__file__).parent / "shipped") -> None:
    """Compiles every program and writes it to `folder`."""
    for program in PROGRAMS.values():
        compiled = compile_program(program)
        save(compiled, folder / f"{program.name}.npz")
        wrong, right = np.bincount(compiled.right, minlength=2)
        print(
            f"{program.name}: {wrong} + {right} inputs, {compiled.asked.embedding.shape[1]} channels",
            flush=True,
        )


if __name__ == "__main__":
    main()
