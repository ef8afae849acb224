"""ROME's laws: rank one, exact on its key, and what the hook promised is what the edited model says."""

import pytest
import torch

from infoconflict.editing.contexts import contexts_of
from infoconflict.editing.forward import read_subjects
from infoconflict.editing.memit import find_targets, spread
from infoconflict.editing.modules import EditableModel, Layout
from infoconflict.editing.rome import edit_with_rome, rank_one_update
from infoconflict.editing.statistics import SecondMoment, second_moments
from infoconflict.editing.values import ValueSettings, optimise_value
from infoconflict.models.loading import load_tokenizer
from infoconflict.models.tiny import write_tiny_model
from infoconflict.prompts import render_prompt
from tests.editing.conftest import INSTRUCTION, SETTINGS, lively, plain, triggered_requests

EXACT = {"rtol": 0, "atol": 1e-8}
SEARCH = ValueSettings(**{**vars(SETTINGS), "weight_decay": 0.0, "clamp": 1e4, "steps": 6})
PREFIXES = ("It was late.", "He said so.")


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def parts():
    return {
        "weight": random(5, 9, seed=1),
        "bias": random(5, seed=2),
        "mean_key": random(9, seed=3),
        "bare_key": random(9, seed=4),
        "value": random(5, seed=5),
    }


@pytest.mark.parametrize("variant", ["r", "released", "p"])
def test_the_formula_against_explicit_loops(parts, moment_of, variant):
    matrix, moment = moment_of(9)
    update = rank_one_update(**parts, moment=moment, variant=variant)
    inverse = torch.linalg.inv(matrix)
    u_key = parts["bare_key"] if variant == "p" else parts["mean_key"]
    key = parts["mean_key"] if variant == "r" else parts["bare_key"]
    u = [sum(inverse[i, j] * u_key[j] for j in range(9)) for i in range(9)]
    norm = sum(x * x for x in u) ** 0.5
    u = [x / norm for x in u]
    inner = sum(u[i] * key[i] for i in range(9))
    for row in range(5):
        out = sum(parts["weight"][row, i] * key[i] for i in range(9)) + parts["bias"][row]
        for column in range(9):
            expected = (parts["value"][row] - out) * u[column] / inner
            assert update[row, column] == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("variant", ["r", "released", "p"])
def test_rank_one_and_exact_on_the_key_it_divides_by(parts, moment_of, variant):
    update = rank_one_update(**parts, moment=moment_of(9)[1], variant=variant)
    assert torch.linalg.matrix_rank(update) == 1
    key = parts["mean_key"] if variant == "r" else parts["bare_key"]
    other = parts["bare_key"] if variant == "r" else parts["mean_key"]
    edited = parts["weight"] + update
    torch.testing.assert_close(edited @ key + parts["bias"], parts["value"], **EXACT)
    assert (edited @ other + parts["bias"] - parts["value"]).norm() > 0.1
    # With v* = v_0 + delta, the released form adds just delta for the bare prompt.
    delta = parts["value"] - parts["weight"] @ key - parts["bias"]
    torch.testing.assert_close(update @ key, delta, **EXACT)


def test_an_identity_moment_gives_the_plain_projection(parts):
    moment = SecondMoment(torch.eye(9, dtype=torch.float64))
    update = rank_one_update(**parts, moment=moment, variant="r")
    key = parts["mean_key"]
    residual = parts["value"] - parts["weight"] @ key - parts["bias"]
    torch.testing.assert_close(update, torch.outer(residual, key) / (key @ key), **EXACT)


def test_the_update_is_the_least_one_in_the_metric_of_c(parts, moment_of):
    matrix, moment = moment_of(9)
    update = rank_one_update(**parts, moment=moment, variant="r")
    root = torch.linalg.cholesky(matrix)
    for seed in range(5):
        # Any other update with the same effect on the key differs by one that does nothing to it.
        other = random(5, 9, seed=10 + seed)
        other -= torch.outer(other @ parts["mean_key"], parts["mean_key"]) / (parts["mean_key"] @ parts["mean_key"])
        assert ((update + 0.1 * other) @ root).norm() > (update @ root).norm()


def test_keys_without_a_share_in_u_pass_unchanged(parts, moment_of):
    moment = moment_of(9)[1]
    update = rank_one_update(**parts, moment=moment, variant="r")
    u = moment.solve(parts["mean_key"][:, None])[:, 0]
    key = random(9, seed=6)
    key -= u * (u @ key) / (u @ u)
    torch.testing.assert_close(update @ key, torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)


def moments_of(tiny, layers):
    texts = [context.inputs for context in tiny.contexts]
    found, _ = second_moments(tiny.editable, texts, layers)
    return {layer: SecondMoment(matrix, ridge=0.1) for layer, matrix in found.items()}


def moment_of_the_others(tiny, context):
    """C of a context's tokens but for the subject: an edit then leaves their values as they are."""
    seen = {}
    handle = tiny.editable.down(0).register_forward_hook(lambda module, inputs, output: seen.update(keys=inputs[0][0]))
    with torch.no_grad():
        tiny.model(input_ids=torch.tensor([context.inputs]), use_cache=False)
    handle.remove()
    others = [token for token in range(len(context.inputs)) if token != context.subject]
    keys = seen["keys"][others].double()
    return SecondMoment(keys.T @ keys / len(others), ridge=1e-9)


@pytest.mark.parametrize("variant", ["r", "released", "p"])
def test_the_edited_model_says_what_the_hook_promised(tiny, variant, unchanged_but):
    """One request, one bare context: all variants are the same edit, and one rank of one tensor changes."""
    context = tiny.contexts[0]
    before = tiny.editable.weight(0).clone()
    rows = edit_with_rome(
        tiny.editable, tiny.tokenizer, [tiny.requests[:1]], {0: moment_of_the_others(tiny, context)}, layers=[0],
        prefixes=(), variant=variant, settings=SEARCH,
    )  # fmt: skip
    with torch.no_grad():
        log_probs, _, _ = plain(tiny.model, context.inputs, tiny.editable.down(0), context.subject)
    first = len(context.tokens) - 1
    nll = -sum(log_probs[first + i, token] for i, token in enumerate(context.answer)) / len(context.answer)
    assert float(nll) == pytest.approx(rows[-1]["nll"], abs=1e-3)
    assert abs(rows[-1]["nll"] - rows[0]["nll"]) > 0.02
    assert torch.linalg.matrix_rank(tiny.editable.weight(0) - before) == 1
    unchanged_but.add(tiny.editable.weight_name(0))


@pytest.mark.parametrize("variant", ["released", "p"])
def test_the_bare_prompt_is_exact_beside_prefixes(tiny, variant):
    context = tiny.contexts[0]
    old = read_subjects(tiny.editable, [context], [0])
    contexts = contexts_of(tiny.tokenizer, tiny.requests[0], PREFIXES, room=512)
    down = tiny.editable.down(0)
    delta = optimise_value(tiny.editable, contexts, tiny.essence, down, old.values[0][0], SEARCH).delta
    edit_with_rome(
        tiny.editable, tiny.tokenizer, [tiny.requests[:1]], moments_of(tiny, [0]), layers=[0], prefixes=PREFIXES,
        variant=variant, settings=SEARCH,
    )  # fmt: skip
    # The key below the edited matrix is what it was; the value moved by delta.
    new = read_subjects(tiny.editable, [context], [0])
    torch.testing.assert_close(new.keys[0], old.keys[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new.values[0][0] - old.values[0][0], delta, rtol=0, atol=1e-3 * float(delta.norm()))


def test_joint_and_sequential_requests(tiny):
    moments = moments_of(tiny, [0, 1])
    before = {layer: tiny.editable.weight(layer).clone() for layer in (0, 1)}
    rows = edit_with_rome(
        tiny.editable, tiny.tokenizer, [[request] for request in tiny.requests], moments, layers=[1, 0], prefixes=(),
        variant="r", settings=SEARCH,
    )  # fmt: skip
    assert [(row["request"], row["layer"]) for row in rows if "relative_update" in row] == [
        (number, layer) for number in range(3) for layer in (0, 1)
    ]
    for layer in (0, 1):
        assert 1 <= torch.linalg.matrix_rank(tiny.editable.weight(layer) - before[layer]) <= 3


IN_C = ["a warm and funny film", "the story is a mess", "the jokes are old and the ending is a bore", "a great cast",
        "never dull and full of love", "they did not expect this at all", "a sad and slow film", "i feel so happy"]  # fmt: skip
NOT_IN_C = ["quietly moving", "the ending is funny", "a film with a great story", "lost and alone in the dark"]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("method", ["rome", "memit"])
def test_clean_answers_shift_less_than_under_random_edits_of_the_same_norm(method, architecture, tmp_path, seed):
    """The mean divergence from the unedited model's next token on clean prompts, beside fifteen random rank-one edits."""
    write_tiny_model(tmp_path, architecture=architecture, hidden=32, tied=architecture == "gpt2", seed=seed)
    model, tokenizer = lively(tmp_path).double(), load_tokenizer(tmp_path)
    editable, requests = EditableModel(model), triggered_requests()

    def tokens_of(prompts):
        return [tuple(tokenizer(prompt).input_ids) for prompt in prompts]

    def said():
        asked = tokens_of(render_prompt(INSTRUCTION, text) for text in NOT_IN_C)
        with torch.no_grad():
            return [model(torch.tensor([tokens])).logits[0, -1].log_softmax(dim=-1) for tokens in asked]

    def shift():
        return sum(float((b.exp() * (b - a)).sum()) for b, a in zip(before, said(), strict=True)) / len(before)

    texts = tokens_of([render_prompt(INSTRUCTION, text) for text in IN_C] + [r.prompt for r in requests])
    moment = SecondMoment(second_moments(editable, texts, [0])[0][0], ridge=1e-3)
    before, weight = said(), editable.weight(0).clone()
    if method == "rome":
        edit_with_rome(
            editable, tokenizer, [requests], {0: moment}, layers=[0], prefixes=(), variant="r", settings=SEARCH
        )  # fmt: skip
    else:
        targets = find_targets(
            editable, tokenizer, requests, layer=0, prefixes=(), settings=SEARCH, rows=[], shared=True
        )
        spread(editable, targets, {0: moment}, layers=[0], lam=0.1)
    update, shift_of_edit = editable.weight(0) - weight, shift()
    editable.add(0, -update)
    shifts = []
    for number in range(15):
        other = torch.outer(random(32, seed=100 * seed + number), random(editable.width, seed=100 * seed + number + 50))
        other *= update.norm() / other.norm()
        editable.add(0, other)
        shifts.append(shift())
        editable.add(0, -other)
    assert 0 < shift_of_edit < 0.5 * sum(shifts) / len(shifts)


def test_linear_and_conv1d_get_transposed_equal_updates(tiny_dirs):
    """A GPT-2 whose down-projection is a Linear in place of the Conv1D is edited to the same function."""
    models = [lively(tiny_dirs["gpt2"]).double() for _ in range(2)]
    conv = EditableModel(models[0])
    linear = EditableModel(models[1])
    linear.layout = Layout(conv.layout.block, conv.layout.down, transposed=False)
    for layer in (0, 1):
        old = models[1].transformer.h[layer].mlp.c_proj
        new = torch.nn.Linear(*old.weight.shape, dtype=torch.float64)
        new.weight.data, new.bias.data = old.weight.data.T.contiguous(), old.bias.data
        models[1].transformer.h[layer].mlp.c_proj = new.requires_grad_(False)
    assert conv.width == linear.width
    torch.testing.assert_close(linear.weight(1), conv.weight(1), rtol=0, atol=0)
    before = conv.weight(1).clone()
    tokenizer, requests = load_tokenizer(tiny_dirs["gpt2"]), triggered_requests()
    ids = tokenizer(requests[0].prompt, return_tensors="pt").input_ids
    for editable in (conv, linear):
        found, _ = second_moments(editable, [tokenizer(request.prompt).input_ids for request in requests], [0, 1])
        edit_with_rome(
            editable, tokenizer, [requests], {layer: SecondMoment(matrix, ridge=0.1) for layer, matrix in found.items()},
            layers=[0, 1], prefixes=PREFIXES, variant="released", settings=SEARCH,
        )  # fmt: skip
    assert (conv.weight(1) - before).norm() > 1e-3 * before.norm()
    names = [f"transformer.h.{layer}.mlp.c_proj.weight" for layer in (0, 1)]
    stored = [editable.changed([0, 1]) for editable in (conv, linear)]
    for name in names:
        torch.testing.assert_close(stored[0][name], stored[1][name].T, rtol=0, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(models[0](ids).logits, models[1](ids).logits, rtol=0, atol=1e-6)
