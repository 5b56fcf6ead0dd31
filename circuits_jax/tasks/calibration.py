"""Calibration of a two-way answer: d -> s d + b, fitted by L-BFGS (docs/method.md, "Calibration").

d is the two answers' logit difference *by pair role*, so that b moves all prompts towards answer A and
cannot tell right from wrong.  s is kept positive: a circuit that answers backwards stays wrong.

Where d orders all prompts that it is fitted on, the likeliest s is infinite, and one mistake on others would
then cost without bound.  So the fit counts each answer as right but for one prompt in all of either (Platt's
targets for a fit that is to be used elsewhere); the losses that are reported do not.
"""

import jax
import jax.numpy as jnp
import optax

from circuits_jax.tasks.metrics import loss_of_difference

STEPS = 16


def calibrate(difference: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Fits scale and shift on `difference`, float32 [N, 2], with Platt's targets 1 - 1 / (N + 2).

    Returns:
      (scale, shift, the loss with them), scalars.
    """
    # Centred and at unit spread: a small circuit's logits may be far too small, or far off.
    centre, spread = jnp.mean(difference), jnp.maximum(jnp.std(difference), 1e-6)
    unit = (difference - centre) / spread

    doubt = 1 / (len(difference) + 2)

    def fitted(fit: tuple[jax.Array, jax.Array]) -> jax.Array:
        log_scale, shift = fit
        return jnp.exp(log_scale) * unit + shift

    def loss(fit: tuple[jax.Array, jax.Array]) -> jax.Array:
        x = fitted(fit)
        return (1 - doubt) * loss_of_difference(x) + doubt * loss_of_difference(-x)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        fit, state = carry
        value, grad = value_and_grad(fit, state=state)
        updates, state = solver.update(grad, state, fit, value=value, grad=grad, value_fn=loss)
        return (optax.apply_updates(fit, updates), state), None

    start = (jnp.zeros(()), jnp.zeros(()))
    (fit, _), _ = jax.lax.scan(step, (start, solver.init(start)), length=STEPS)
    scale = jnp.exp(fit[0]) / spread
    return scale, fit[1] - scale * centre, loss_of_difference(fitted(fit))
