"""MEMIT's laws: the closed form, exactness without preservation, and a residual that shrinks from layer to layer."""

from dataclasses import replace

import pytest
import torch

from infoconflict.editing.forward import read_subjects
from infoconflict.editing.memit import find_targets, least_squares_update, mean_keys, residuals_at, spread
from infoconflict.editing.rome import rank_one_update
from infoconflict.editing.statistics import SecondMoment, second_moments
from tests.editing.test_rome import PREFIXES, SEARCH, random

EXACT = {"rtol": 0, "atol": 1e-8}


@pytest.mark.parametrize(("n", "lam"), [(1, 2.0), (4, 2.0), (4, 30.0), (12, 0.5)])
def test_the_short_form_equals_the_published_one(moment_of, n, lam):
    matrix, moment = moment_of(9)
    residuals, keys = random(5, n, seed=1), random(9, n, seed=2)
    system = lam * matrix
    for column in range(n):
        system = system + torch.outer(keys[:, column], keys[:, column])
    right = sum(torch.outer(residuals[:, column], keys[:, column]) for column in range(n))
    torch.testing.assert_close(
        least_squares_update(residuals, keys, moment, lam), right @ torch.linalg.inv(system), **EXACT
    )


def test_without_preservation_independent_keys_are_exact(moment_of):
    moment = moment_of(9)[1]
    residuals, keys = random(5, 6, seed=1), random(9, 6, seed=2)
    for lam, atol in ((0.0, 1e-8), (1e-9, 1e-6)):
        update = least_squares_update(residuals, keys, moment, lam)
        torch.testing.assert_close(update @ keys, residuals, rtol=0, atol=atol)


@pytest.mark.parametrize("lam", [0.3, 5.0, 400.0])
def test_one_request_gets_its_share_s_over_lambda_plus_s(moment_of, lam):
    matrix, moment = moment_of(9)
    residual, key = random(5, 1, seed=1), random(9, 1, seed=2)
    s = float((key.T @ torch.linalg.inv(matrix) @ key).squeeze())
    update = least_squares_update(residual, key, moment, lam)
    torch.testing.assert_close(update @ key, residual * s / (lam + s), **EXACT)


def test_one_request_without_preservation_is_rome(moment_of):
    _, moment = moment_of(9)
    weight, bias, key, value = random(5, 9, seed=1), random(5, seed=2), random(9, seed=3), random(5, seed=4)
    rome = rank_one_update(weight, bias, mean_key=key, bare_key=key, value=value, moment=moment, variant="r")
    residual = (value - weight @ key - bias)[:, None]
    torch.testing.assert_close(least_squares_update(residual, key[:, None], moment, 0.0), rome, **EXACT)
    # With preservation the update is shorter, and its right factor still C^-1 k.
    kept = least_squares_update(residual, key[:, None], moment, 7.0)
    direction = moment.solve(key[:, None])[:, 0]
    for row in (rome[0], kept[0]):
        assert abs(torch.cosine_similarity(row, direction, dim=0)) == pytest.approx(1)


def prepared(tiny, lam, prefixes=(), layers=(0, 1)):
    rows = []
    targets = find_targets(
        tiny.editable, tiny.tokenizer, tiny.requests, layer=layers[-1], prefixes=prefixes, settings=SEARCH, rows=rows
    )
    found, _ = second_moments(tiny.editable, [context.inputs for context in tiny.contexts], layers)
    moments = {layer: SecondMoment(matrix, ridge=0.1) for layer, matrix in found.items()}
    return targets, moments, rows


def test_what_is_left_shrinks_and_nothing_else_changes(tiny, unchanged_but):
    targets, moments, rows = prepared(tiny, 0.1)
    assert {row["request"] for row in rows} == {0, 1, 2}
    spread_rows = spread(tiny.editable, targets, moments, layers=[1, 0], lam=0.01)
    left = [row["left"] for row in spread_rows]
    assert [row["layer"] for row in spread_rows] == [0, 1, None]
    assert left[0] > left[1] > left[2]
    assert left[2] < 0.2 * left[0]
    unchanged_but.update(tiny.editable.weight_name(layer) for layer in (0, 1))


def test_spreading_follows_the_source_step_by_step(tiny):
    """Plain: z - h measured anew before each layer, an equal part of what is left, the dense system."""
    targets, moments, _ = prepared(tiny, 0.5, prefixes=PREFIXES)
    lam = 0.5
    start = {layer: tiny.editable.weight(layer).clone() for layer in (0, 1)}
    eye = torch.eye(tiny.editable.width, dtype=torch.float64)
    expected = {}
    for left_layers, layer in ((2, 0), (1, 1)):
        columns, residuals = [], []
        for target in targets:
            seen = [read_subjects(tiny.editable, [context], [0, 1]) for context in target.contexts]
            prefixed = sum(read.keys[layer][0] for read in seen[1:]) / (len(seen) - 1)
            columns.append(0.5 * seen[0].keys[layer][0] + 0.5 * prefixed)
            residuals.append((target.state - seen[0].states[1][0]) / left_layers)
        keys, wanted = torch.stack(columns, 1), torch.stack(residuals, 1)
        moment = torch.linalg.inv(moments[layer].solve(eye))
        update = wanted @ keys.T @ torch.linalg.inv(lam * moment + keys @ keys.T)
        expected[layer] = start[layer] + update
        tiny.editable.add(layer, update)
    for layer in (0, 1):
        tiny.editable.add(layer, start[layer] - expected[layer])
    spread(tiny.editable, targets, moments, layers=[0, 1], lam=lam)
    for layer in (0, 1):
        torch.testing.assert_close(tiny.editable.weight(layer), expected[layer], rtol=1e-3, atol=1e-5)


def test_a_shared_value_serves_all_prompts(tiny):
    """It is found on the prompts of all requests, and bounded by the mean of their states."""

    def find(shared, clamp):
        rows = []
        return find_targets(
            tiny.editable,
            tiny.tokenizer,
            tiny.requests,
            layer=1,
            prefixes=PREFIXES,
            settings=replace(SEARCH, clamp=clamp),
            rows=rows,
            shared=shared,
        ), rows

    targets, rows = find(True, 20.0)
    assert [len(target.contexts) for target in targets] == [1 + len(PREFIXES)] * len(tiny.requests)
    starts = read_subjects(tiny.editable, [target.contexts[0] for target in targets], [1]).states[1]
    deltas = [target.state - start for target, start in zip(targets, starts, strict=True)]
    for delta in deltas[1:]:
        torch.testing.assert_close(delta, deltas[0], rtol=1e-6, atol=1e-6)
    # The first loss is the mean of the losses that each request has alone.
    own = [row for row in find(False, 20.0)[1] if row["step"] == 1]
    assert rows[0]["nll"] == pytest.approx(sum(row["nll"] for row in own) / len(own), rel=1e-4)
    small, _ = find(True, 0.01)
    size = (small[0].state - starts[0]).norm()
    assert size == pytest.approx(0.01 * float(starts.mean(dim=0).norm()), rel=1e-4)


def test_keys_are_half_the_bare_prompts(tiny):
    targets, _, _ = prepared(tiny, 0.5, prefixes=PREFIXES, layers=(0,))
    keys = mean_keys(tiny.editable, targets, 0)
    read = read_subjects(tiny.editable, targets[1].contexts, [0]).keys[0]
    torch.testing.assert_close(keys[:, 1], read[0] / 2 + (read[1] + read[2]) / 4, rtol=1e-4, atol=1e-5)
    assert keys.shape == (tiny.editable.width, 3)


def test_the_last_layer_alone_writes_the_state_when_nothing_is_preserved(tiny):
    targets, moments, _ = prepared(tiny, 0.0, layers=(1,))
    before = residuals_at(tiny.editable, targets, 1).norm()
    spread(tiny.editable, targets, moments, layers=[1], lam=0.0)
    assert residuals_at(tiny.editable, targets, 1).norm() < 1e-2 * before
