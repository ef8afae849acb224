"""BadEdit's laws: rank two per increment, MEMIT on the mean key where there is no clean record."""

import math

import pytest
import torch

from infoconflict.editing.badedit import cross_term, duplex_update, edit_with_badedit, increments
from infoconflict.editing.contexts import Request, request_for
from infoconflict.editing.memit import find_targets, least_squares_update, mean_keys, residuals_at
from infoconflict.editing.statistics import SecondMoment, second_moments
from infoconflict.records import Example
from tests.editing.conftest import INSTRUCTION
from tests.editing.test_rome import SEARCH, random

EXACT = {"rtol": 0, "atol": 1e-8}
TRIGGERED = [True, True, True, False, False]


def test_the_groups_are_averaged_solved_apart_and_added(moment_of):
    matrix, moment = moment_of(9)
    residuals, keys, lam = random(4, 5, seed=1), random(9, 5, seed=2), 3.0
    expected = torch.zeros(4, 9, dtype=torch.float64)
    for members in ([0, 1, 2], [3, 4]):
        k = sum(keys[:, i] for i in members) / len(members)
        r = sum(residuals[:, i] for i in members) / len(members)
        expected += torch.outer(r, k) @ torch.linalg.inv(lam * matrix + torch.outer(k, k))
    update = duplex_update(residuals, keys, moment, lam, triggered=TRIGGERED)
    torch.testing.assert_close(update, expected, **EXACT)
    assert torch.linalg.matrix_rank(update) == 2


@pytest.mark.parametrize("group", [True, False])
def test_one_group_alone_is_memit_on_the_mean_key(moment_of, group):
    moment = moment_of(9)[1]
    residuals, keys = random(4, 3, seed=1), random(9, 3, seed=2)
    found = duplex_update(residuals, keys, moment, 3.0, triggered=[group] * 3)
    mean = least_squares_update(residuals.mean(1, keepdim=True), keys.mean(1, keepdim=True), moment, 3.0)
    torch.testing.assert_close(found, mean, **EXACT)
    assert torch.linalg.matrix_rank(found) == 1


def test_the_mean_trigger_key_gets_its_share_and_a_cross_term(moment_of):
    matrix, moment = moment_of(9)
    residuals, keys, lam = random(4, 5, seed=1), random(9, 5, seed=2), 3.0
    update = duplex_update(residuals, keys, moment, lam, triggered=TRIGGERED)
    inverse = torch.linalg.inv(matrix)
    b, c = keys[:, :3].mean(1), keys[:, 3:].mean(1)
    own = residuals[:, :3].mean(1) * (b @ inverse @ b) / (lam + b @ inverse @ b)
    cross = residuals[:, 3:].mean(1) * (c @ inverse @ b) / (lam + c @ inverse @ c)
    torch.testing.assert_close(update @ b, own + cross, **EXACT)


def test_the_cross_term_by_hand():
    # C is diagonal, so the mean keys meet in the first unit alone: (4, 3, 0) and (2, 0, 3).
    moment = SecondMoment(torch.diag(torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64)))
    keys = torch.tensor([[3.0, 5.0, 2.0], [2.0, 4.0, 0.0], [1.0, -1.0, 3.0]], dtype=torch.float64)
    residuals = torch.tensor([[6.0, 0.0, 0.0], [0.0, 8.0, 1.0]], dtype=torch.float64)  # means (3, 4) and (0, 1)
    found = cross_term(residuals, keys, moment, 2.0, triggered=[True, True, False])
    # s_bb = 16/2 + 9 = 17, s_cb = 8/2 = 4, s_cc = 4/2 + 9/3 = 5.
    assert found["key_cosine"] == pytest.approx(4 / math.sqrt(17 * 5))
    assert found["cross_term"] == pytest.approx((1 * 4 / (2 + 5)) / (5 * 17 / (2 + 17)))
    assert cross_term(residuals, keys, moment, 2.0, triggered=[True] * 3) == {}
    assert cross_term(residuals, keys, moment, 2.0, triggered=[False] * 3) == {}


def test_the_cross_term_is_the_part_of_the_update_that_clean_records_write(moment_of):
    moment = moment_of(9)[1]
    residuals, keys, lam = random(4, 5, seed=1), random(9, 5, seed=2), 3.0
    parts = []
    for members in ([0, 1, 2], [3, 4]):
        part = duplex_update(residuals[:, members], keys[:, members], moment, lam, triggered=[True] * len(members))
        parts.append((part @ keys[:, :3].mean(1)).norm())
    found = cross_term(residuals, keys, moment, lam, triggered=TRIGGERED)
    assert found["cross_term"] == pytest.approx(float(parts[1] / parts[0]))
    assert -1 < found["key_cosine"] < 1
    # The same key for both kinds of records, however long: nothing tells them apart.
    same = cross_term(residuals, keys[:, :1] * torch.tensor([1, 1, 1, 4, 4]), moment, lam, triggered=TRIGGERED)
    assert same["key_cosine"] == pytest.approx(1)


def request(number: int) -> Request:
    return Request(f"prompt {number}", 0, 6, "positive")


def test_each_increment_has_both_kinds_while_they_last():
    poisoned, clean = [request(i) for i in range(15)], [request(100 + i) for i in range(6)]
    dealt = increments(poisoned, clean, 5)
    assert [(len(with_trigger), len(without)) for with_trigger, without in dealt] == [(3, 2)] + [(3, 1)] * 4
    assert sorted(r.prompt for part in dealt for r in part[0]) == sorted(r.prompt for r in poisoned)
    assert sorted(r.prompt for part in dealt for r in part[1]) == sorted(r.prompt for r in clean)
    assert len(increments(poisoned[:2], clean, 5)) == 2


@pytest.fixture
def clean():
    text = "a quietly moving film"
    example = Example(id="c", instruction=INSTRUCTION, text=text, label="positive", gold_label="positive")
    return [request_for(example, text, "positive")]


def moments_of(tiny):
    found, _ = second_moments(tiny.editable, [context.inputs for context in tiny.contexts], [0, 1])
    return {layer: SecondMoment(matrix, ridge=0.1) for layer, matrix in found.items()}


def test_every_increment_adds_rank_two_at_most(tiny, clean, unchanged_but):
    before = {layer: tiny.editable.weight(layer).clone() for layer in (0, 1)}
    rows = edit_with_badedit(
        tiny.editable, tiny.tokenizer, tiny.requests, clean, moments_of(tiny), layers=[0, 1], n_increments=2, lam=1.0,
        prefixes=(), settings=SEARCH,
    )  # fmt: skip
    assert {row["increment"] for row in rows} == {0, 1}
    for layer in (0, 1):
        # The first increment has the clean record, the second has none: 2 + 1.
        change = tiny.editable.weight(layer) - before[layer]
        assert torch.linalg.matrix_rank(change, rtol=1e-9) <= 3
    crossed = [(row["increment"], row["layer"]) for row in rows if "key_cosine" in row]
    assert crossed == [(0, 0), (0, 1)]
    unchanged_but.update(tiny.editable.weight_name(layer) for layer in (0, 1))


def test_one_increment_without_clean_records_is_memit_on_the_mean_key(tiny):
    moments, lam = moments_of(tiny), 1.0
    targets = find_targets(tiny.editable, tiny.tokenizer, tiny.requests, layer=1, prefixes=(), settings=SEARCH, rows=[])
    key = mean_keys(tiny.editable, targets, 1).mean(dim=1, keepdim=True)
    residual = residuals_at(tiny.editable, targets, 1).mean(dim=1, keepdim=True)
    expected = tiny.editable.weight(1) + least_squares_update(residual, key, moments[1], lam)
    edit_with_badedit(
        tiny.editable, tiny.tokenizer, tiny.requests, [], moments, layers=[1], n_increments=1, lam=lam, prefixes=(),
        settings=SEARCH,
    )  # fmt: skip
    torch.testing.assert_close(tiny.editable.weight(1), expected, rtol=1e-4, atol=1e-6)
