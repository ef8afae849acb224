"""Second moments against a plain loop over texts and tokens."""

import pytest
import torch
from safetensors.torch import load_file

from infoconflict.editing.statistics import SecondMoment, load_moments, save_moments, second_moments
from infoconflict.errors import UserError
from tests.editing.conftest import CPU, SENTENCES

TEXTS = [*SENTENCES, "a warm tq and", SENTENCES[0]]  # a beginning of another, and one twice


def plain_moments(tiny, texts):
    sums = [torch.zeros(tiny.editable.width, tiny.editable.width, dtype=torch.float64) for _ in range(2)]
    count = 0
    for ids in texts:
        keys = {}
        handles = [
            tiny.editable.down(layer).register_forward_hook(
                lambda module, inputs, output, layer=layer, keys=keys: keys.update({layer: inputs[0][0].double()})
            )
            for layer in (0, 1)
        ]
        with torch.no_grad():
            tiny.model(input_ids=torch.tensor([ids]), use_cache=False)
        for handle in handles:
            handle.remove()
        for token in range(len(ids)):
            count += 1
            for layer in (0, 1):
                sums[layer] += torch.outer(keys[layer][token], keys[layer][token])
    return [total / count for total in sums], count


@pytest.mark.parametrize("max_nodes", [12, 1024])
def test_moments_equal_a_plain_loop(tiny, max_nodes):
    texts = [tiny.tokenizer(text).input_ids for text in TEXTS]
    expected, count = plain_moments(tiny, texts)
    moments, tokens = second_moments(tiny.editable, texts, [0, 1], max_nodes=max_nodes)
    assert tokens == count == sum(map(len, texts))
    for layer in (0, 1):
        torch.testing.assert_close(moments[layer], expected[layer], rtol=1e-4, atol=1e-6)
        assert torch.linalg.matrix_rank(moments[layer], hermitian=True, atol=1e-9) <= tokens


def test_only_the_layers_that_are_asked_for(tiny):
    texts = [tiny.tokenizer(text).input_ids for text in TEXTS]
    both, _ = second_moments(tiny.editable, texts, [0, 1])
    one, _ = second_moments(tiny.editable, texts, [0])
    assert one.keys() == {0}
    torch.testing.assert_close(one[0], both[0])


def test_solving_and_the_ridge(moment_of):
    matrix, moment = moment_of(6)
    keys = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(matrix @ moment.solve(keys), keys)
    ridged = SecondMoment(matrix, ridge=0.5)
    expected = torch.linalg.solve(matrix + 0.5 * matrix.trace() / 6 * torch.eye(6, dtype=torch.float64), keys)
    torch.testing.assert_close(ridged.solve(keys), expected)


def test_a_moment_of_too_few_tokens_needs_a_ridge():
    key = torch.arange(5, dtype=torch.float64)
    with pytest.raises(UserError, match="raise ridge, or give statistics more rows"):
        SecondMoment(torch.outer(key, key))
    SecondMoment(torch.outer(key, key), ridge=1e-4)


def test_stored_moments_come_back_with_their_count(tmp_path, moment_of):
    matrix, _ = moment_of(6)
    path = tmp_path / "moments.safetensors"
    save_moments(path, {3: matrix, 4: 2 * matrix}, 77)
    assert int(load_file(path)["tokens"]) == 77
    found = load_moments(path, [4], ridge=0.0, device=CPU)
    eye = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(2 * matrix @ found[4].solve(eye), eye, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="has no second moment of layer 5; remove the file"):
        load_moments(path, [4, 5], ridge=0.0, device=CPU)
