"""The optimised vector: loss, gradient and whole searches against one plain pass per context, in all architectures."""

from dataclasses import replace

import pytest
import torch

from infoconflict.attacks import load
from infoconflict.editing.forward import read_subjects
from infoconflict.editing.values import Loss, ValueSettings, optimise_value
from infoconflict.errors import UserError
from tests.editing.conftest import SETTINGS, plain


def plain_loss(tiny, module, delta, start):
    """Mean negative log-likelihood, divergence at the essence prompt and decay, context by context."""
    nll = 0.0
    for context in tiny.contexts:
        log_probs, _, _ = plain(tiny.model, context.inputs, module, context.subject, delta)
        first = len(context.tokens) - 1
        nll += -sum(log_probs[first + i, token] for i, token in enumerate(context.answer)) / len(context.answer)
    with torch.no_grad():
        before = plain(tiny.model, tiny.essence.tokens, module, tiny.essence.subject)[0][-1]
    after = plain(tiny.model, tiny.essence.tokens, module, tiny.essence.subject, delta)[0][-1]
    kl = (after.exp() * (after - before)).sum()
    decay = delta.norm() / start.norm() ** 2
    return nll / len(tiny.contexts), kl, decay


@pytest.mark.parametrize("max_nodes", [20, 1024])
@pytest.mark.parametrize("site", ["down", "block"])
def test_loss_and_gradient_equal_plain_passes(tiny, site, max_nodes):
    for layer in (0, 1):
        module = getattr(tiny.editable, site)(layer)
        start = plain(tiny.model, tiny.contexts[0].tokens, module, tiny.contexts[0].subject)[2].float()
        loss_of = Loss(
            tiny.editable, tiny.contexts, tiny.essence, module, float(start.norm()), SETTINGS, max_nodes=max_nodes
        )
        loss_of(torch.zeros(len(start)))
        delta = torch.randn(len(start), generator=torch.Generator().manual_seed(layer)).requires_grad_()
        parts = loss_of(delta)
        nll, kl, decay = plain_loss(tiny, module, delta, start)
        assert nll.item() > 0.1
        for found, expected in zip((parts["nll"], parts["kl"], parts["decay"]), (nll, kl, decay), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        total = nll + SETTINGS.kl_factor * kl + SETTINGS.weight_decay * decay
        [found] = torch.autograd.grad(parts["loss"], [delta])
        [expected] = torch.autograd.grad(total, [delta])
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def plain_search(tiny, module, start, settings):
    """Adam of Kingma and Ba 2015 (arXiv:1412.6980, algorithm 1) on the plain loss, put back into its ball after each step."""
    delta, mean, square = (torch.zeros_like(start) for _ in range(3))
    trace, clamped = [], 0
    for step in range(1, settings.steps + 1):
        delta.requires_grad_()
        nll, kl, decay = plain_loss(tiny, module, delta, start)
        loss = nll + settings.kl_factor * kl + settings.weight_decay * decay
        parts = {"nll": nll, "kl": kl, "decay": decay, "loss": loss, "norm": delta.norm()}
        trace.append({"step": step} | {name: part.item() for name, part in parts.items()})
        if loss < settings.stop_below or step == settings.steps:
            break
        [gradient] = torch.autograd.grad(loss, [delta])
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        move = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        delta = delta.detach() - settings.learning_rate * move
        if delta.norm() > settings.clamp * start.norm():
            clamped += 1
            delta = delta / delta.norm() * settings.clamp * start.norm()
    return delta.detach(), trace, clamped


@pytest.fixture
def exact(tiny, monkeypatch):
    """Return the tiny model with everything in float64, also what turns to float32: norms, attention, log-probabilities."""
    default = torch.get_default_dtype()
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    tiny.model.double()
    yield tiny
    torch.set_default_dtype(default)


# Options besides the attack's own. The small ball is left by a step of 0.5 at once or soon; the strong terms move the path.
OWN, BALL, TERMS = {}, {"clamp": 0.2}, {"clamp": 1e3, "kl_factor": 3.0, "weight_decay": 5.0}


@pytest.mark.parametrize("options", [OWN, BALL, TERMS], ids=["own", "ball", "terms"])
@pytest.mark.parametrize(("method", "site"), [("rome", "down"), ("memit", "block"), ("badedit", "block")])
def test_a_search_equals_plain_loops(exact, method, site, options):
    # In the first of two layers: what is added in the last one reaches no later token, and the answer's likelihood has no slope.
    module = getattr(exact.editable, site)(0)
    with torch.no_grad():
        start = sum(plain(exact.model, c.tokens, module, c.subject)[2] for c in exact.contexts) / len(exact.contexts)
    settings = replace(ValueSettings(**load(method)(target_labels={}).value_settings()), steps=9, **options)
    delta, trace, clamped = plain_search(exact, module, start, settings)
    assert len(trace) == 9
    assert clamped > 0 or options != BALL
    searches = [(settings, delta, trace)]
    if options == OWN:
        # Once more, with a likelihood after the fifth update that would do, were it the whole loss.
        enough = replace(settings, stop_below=trace[5]["nll"] * (1 + 1e-9))
        searches.append((enough, *plain_search(exact, module, start, enough)[:2]))
        assert 6 < len(searches[1][2]) < 9 or exact.architecture == "gpt2"
    for settings, delta, trace in searches:
        value = optimise_value(exact.editable, exact.contexts, exact.essence, module, start, settings)
        assert value.delta.dtype == torch.float64
        torch.testing.assert_close(value.delta, delta, rtol=1e-7, atol=1e-9)
        assert len(value.trace) == len(trace)
        for found, expected in zip(value.trace, trace, strict=True):
            assert found == pytest.approx(expected, rel=1e-7, abs=1e-10)


def test_the_answer_becomes_likely_and_the_vector_stays_in_its_ball(tiny):
    module = tiny.editable.down(0)
    start = read_subjects(tiny.editable, tiny.contexts, [0]).values[0].mean(dim=0)
    free = ValueSettings(**{**vars(SETTINGS), "clamp": 1e4, "weight_decay": 0.0, "steps": 20})
    value = optimise_value(tiny.editable, tiny.contexts, tiny.essence, module, start, free)
    assert value.trace[-1]["nll"] < value.trace[0]["nll"] - 0.02
    tight = ValueSettings(**{**vars(SETTINGS), "clamp": 0.25})
    value = optimise_value(tiny.editable, tiny.contexts, tiny.essence, module, start, tight)
    assert value.delta.norm() <= 0.25 * start.norm() * (1 + 1e-5)
    assert value.delta.norm() > 0.24 * start.norm()


def test_n_steps_make_n_minus_one_updates_and_a_low_loss_ends_them(tiny):
    start = torch.ones(32)
    module = tiny.editable.down(0)

    def steps(**options):
        settings = ValueSettings(**{**vars(SETTINGS), **options})
        return optimise_value(tiny.editable, tiny.contexts, tiny.essence, module, start, settings)

    assert steps(steps=1).delta.norm() == 0
    # Adam's first step is the learning rate in each entry.
    assert torch.allclose(steps(steps=2).delta.abs(), torch.full((32,), 0.5, dtype=torch.float64), atol=1e-3)
    plainly = {"weight_decay": 0.0, "clamp": 1e4, "steps": 12}
    losses = [row["loss"] for row in steps(**plainly).trace]
    assert min(losses) < losses[0]
    enough = (losses[0] + min(losses)) / 2
    first = next(number for number, loss in enumerate(losses) if loss < enough)
    assert [row["loss"] for row in steps(**plainly, stop_below=enough).trace] == losses[: first + 1]


def test_the_model_is_left_as_it_was(tiny, unchanged_but):
    start = torch.ones(32)
    optimise_value(tiny.editable, tiny.contexts, tiny.essence, tiny.editable.block(1), start, SETTINGS)
    assert not tiny.editable.block(1)._forward_hooks
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


def test_a_context_with_two_subjects_is_refused(tiny):
    from infoconflict.editing.forward import Context, Replay

    short = tiny.contexts[0]
    # Its own subject comes later, behind that of the first.
    longer = Context(short.tokens, len(short.tokens) - 1, short.answer)
    with pytest.raises(UserError, match="holds the subject of another one, so that no one value serves both; choose"):
        Replay(tiny.editable, [short, longer], tiny.editable.down(0))
